"""Ways to tell people of alerts: each file implements `flyball.domain.monitoring.notifiers.Notifier`."""
