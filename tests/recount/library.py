"""What calls cost by the price list of the library genai-prices, as the library itself counts: docs/cost.md."""

from __future__ import annotations

from datetime import UTC
from decimal import Decimal

import genai_prices

from tests.recount.calls import LlmCall

#: Inference in the US costs more, of these makers' models of these generations.
US_FACTOR = Decimal("1.1")
US_MODELS = ("claude-opus-4-6", "claude-sonnet-4-6", "claude-opus-4-8")


def cost(call: LlmCall) -> Decimal | None:
    """What a call of the standard tier and without searches cost in USD; None where the library has no price."""
    assert call.model is not None
    fresh, read, short, long, output = call.tokens
    usage = genai_prices.Usage(
        input_tokens=fresh + read + short + long, cache_read_tokens=read, cache_write_tokens=short + long,
        cache_write_5m_tokens=short, cache_write_1h_tokens=long, output_tokens=output,
        output_reasoning_tokens=min(call.reasoning or 0, output),
    )  # fmt: skip
    try:
        price = genai_prices.calc_price(
            usage, call.model, provider_id=call.provider, genai_request_timestamp=call.timestamp.replace(tzinfo=UTC)
        ).total_price
    except LookupError:
        return None
    if call.place != "us":
        return price
    return price * US_FACTOR if call.model.startswith(US_MODELS) else price
