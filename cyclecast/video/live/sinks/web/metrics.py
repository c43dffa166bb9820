"""What Prometheus may know of a live run, read from the run when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cyclecast.video.live.meter import Histogram
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.sinks.web.viewers import Viewers

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics(Collector):
    """A collector over the run's own counters: nothing is counted twice, and nothing costs anything until it is asked for."""

    def __init__(self, controls: SessionControls, viewers: Viewers) -> None:
        self._controls, self._viewers = controls, viewers
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """In Prometheus' own format."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        controls, meter = self._controls, self._controls.meter
        captured, shown, now = controls.feed.captured, meter.shown, meter.now()
        counts = (
            ("cyclecast_frames_captured", "Pictures that came from the source.", captured),
            ("cyclecast_frames_shown", "Pictures that a sink took.", shown),
            ("cyclecast_frames_skipped", "Pictures that a newer one took the place of.", controls.skipped),
            ("cyclecast_frames_held", "Times that the last picture was shown again because the source was gone.", meter.held),
            ("cyclecast_reconnects", "Times that a source that was gone came back.", controls.feed.reconnects),
        )
        for name, about, value in counts:
            yield CounterMetricFamily(name, about, value=value)
        yield summary("cyclecast_latency_seconds", "Captured to shown, over the run.", meter.latency)
        yield summary("cyclecast_model_seconds", "In the model, over the run.", meter.model)
        up = controls.feed.gone is None and captured > 0
        gauges = (
            ("cyclecast_fps", "Pictures shown per second, of the last three seconds.", now.fps),
            ("cyclecast_recent_latency_seconds", "The median of the last three seconds.", now.latency_ms / 1000),
            ("cyclecast_source_up", "1 while pictures come from the source.", up),
            ("cyclecast_recording", "1 while a recording goes on.", controls.recording is not None),
        )
        for name, about, gauge in gauges:
            yield GaugeMetricFamily(name, about, value=gauge)
        watching = GaugeMetricFamily("cyclecast_viewers", "Who is watching the web page's picture.", labels=["kind"])
        for kind in ("webrtc", "mjpeg"):
            watching.add_metric([kind], self._viewers.count(kind))
        yield watching
        model = GaugeMetricFamily("cyclecast_model", "1 for the model at work.", labels=["model"])
        for name in controls.switcher.models:
            model.add_metric([name], name == controls.switcher.active_model)
        yield model


def summary(name: str, about: str, durations: Histogram) -> Metric:
    """Quantiles, sum and count, in seconds."""
    metric, found = Metric(name, about, "summary"), durations.percentiles()
    for quantile, milliseconds in (("0.5", found.p50), ("0.95", found.p95), ("0.99", found.p99), ("1", found.max)):
        metric.add_sample(name, {"quantile": quantile}, milliseconds / 1000)
    metric.add_sample(f"{name}_sum", {}, durations.seconds)
    metric.add_sample(f"{name}_count", {}, durations.count)
    return metric
