"""Metrics of a live run for Prometheus, read from the run's own counters on request."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cyclecast.video.live.meter import Histogram
from cyclecast.video.live.sinks.sink import SessionControls
from cyclecast.video.live.sinks.web.viewers import Transport, Viewers

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TRANSPORTS: tuple[Transport, ...] = ("webrtc", "mjpeg")


class Metrics(Collector):
    """A Prometheus collector: it counts nothing itself, and costs nothing until it is read."""

    def __init__(self, controls: SessionControls, viewers: Viewers) -> None:
        self._controls, self._viewers = controls, viewers
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Returns nothing: the metrics describe themselves as they are collected."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yields every metric."""
        yield from self._counters()
        yield summary("cyclecast_latency_seconds", "From capture to a sink, over the whole run.", self._controls.meter.latency)
        yield summary("cyclecast_model_seconds", "In the model, over the whole run.", self._controls.meter.model)
        yield from self._gauges()

    def _counters(self) -> Iterable[Metric]:
        controls, feed, meter = self._controls, self._controls.feed, self._controls.meter
        counters = (
            ("cyclecast_frames_captured", "Frames that the source delivered.", feed.captured),
            ("cyclecast_frames_shown", "Frames that a sink accepted.", meter.shown),
            ("cyclecast_frames_skipped", "Captured frames that a newer one replaced.", controls.skipped),
            ("cyclecast_frames_held", "Repeats of the last frame during an outage of the source.", meter.held),
            ("cyclecast_reconnects", "Times that the source came back after an outage.", feed.reconnects),
        )
        for name, documentation, value in counters:
            yield CounterMetricFamily(name, documentation, value=value)
        yield from self._outputs()

    def _outputs(self) -> Iterable[Metric]:
        sent = CounterMetricFamily("cyclecast_output_sent", "Frames handed to the network.", labels=["output"])
        dropped = CounterMetricFamily("cyclecast_output_dropped", "Frames that an output did not send.", labels=["output"])
        reconnects = CounterMetricFamily("cyclecast_output_reconnects", "Times that a server came back.", labels=["output"])
        connected = GaugeMetricFamily("cyclecast_output_connected", "1 while an output is connected.", labels=["output"])
        for number, output in enumerate(self._controls.outputs, 1):
            labels = [f"{number} {output.name}"]  # two may go to the same host
            sent.add_metric(labels, output.sent)
            dropped.add_metric(labels, output.dropped)
            reconnects.add_metric(labels, output.reconnects)
            connected.add_metric(labels, output.is_connected)
        yield from (sent, dropped, reconnects, connected)

    def _gauges(self) -> Iterable[Metric]:
        controls, recent = self._controls, self._controls.meter.recent()
        is_up = controls.feed.outage is None and controls.feed.captured > 0
        gauges = (
            ("cyclecast_fps", "Frames shown per second, over the last three seconds.", recent.fps),
            ("cyclecast_recent_latency_seconds", "Median latency of the last three seconds.", recent.latency_ms / 1000),
            ("cyclecast_source_up", "1 while the source delivers frames.", is_up),
            ("cyclecast_recording", "1 while a recording runs.", controls.recording is not None),
        )
        for name, documentation, gauge in gauges:
            yield GaugeMetricFamily(name, documentation, value=gauge)
        viewers = GaugeMetricFamily("cyclecast_viewers", "Viewers of the web page's video.", labels=["transport"])
        for transport in TRANSPORTS:
            viewers.add_metric([transport], self._viewers.count(transport))
        yield viewers
        models = GaugeMetricFamily("cyclecast_model", "1 for the active model.", labels=["model"])
        for name in controls.switcher.models:
            models.add_metric([name], name == controls.switcher.active_model)
        yield models


def summary(name: str, documentation: str, durations: Histogram) -> Metric:
    """Returns a summary with quantiles, sum and count, in seconds."""
    metric, percentiles = Metric(name, documentation, "summary"), durations.percentiles()
    quantiles = (("0.5", percentiles.p50), ("0.95", percentiles.p95), ("0.99", percentiles.p99), ("1", percentiles.max))
    for quantile, milliseconds in quantiles:
        metric.add_sample(name, {"quantile": quantile}, milliseconds / 1000)
    metric.add_sample(f"{name}_sum", {}, durations.seconds)
    metric.add_sample(f"{name}_count", {}, durations.count)
    return metric
