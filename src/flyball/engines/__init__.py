"""Where steps run; each implements `flyball.domain.pipelines.engine.Engine`."""
