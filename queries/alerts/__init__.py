"""Alerts: rules are events, evaluated in batches over the index, and their firings are events.

catch up → standings of rules ← alert_rules, alerts
                 │
                 ▼        one statement for each kind of rule; untrusted SQL in a process of its own
           readings ──→ machine: fire, resolve or leave ──→ events ──→ deliveries that are due ──→ events
"""
