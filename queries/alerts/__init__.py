"""Alerts: rules that are events, evaluated over the index in batches, and firings that are events.

catch up → standings of rules ← alert_rules, alerts
                 │
                 ▼        one statement per kind of rule; other people's SQL in a process of its own
           readings ──→ machine: fire, resolve or leave ──→ events ──→ deliveries that are due ──→ events
"""
