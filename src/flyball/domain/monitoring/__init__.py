"""Windows, drift, quality, performance, service figures and the alerts that follow from them."""
