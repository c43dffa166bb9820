"""Addresses of network outputs: what FFmpeg opens, with which muxer, and the settings after `#`."""

from __future__ import annotations

import importlib.util
import os
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl

import av

from cyclecast.errors import ConfigError, OutputExistsError
from cyclecast.video.files.encoders import HARDWARE
from cyclecast.video.live.sinks.network.settings import StreamSettings, parse_bit_rate, parse_keyframe_interval
from cyclecast.video.live.sinks.sink import MissingSink
from cyclecast.video.live.sources.address import file_path, host_address, url_scheme

PLAYLIST = ".m3u8"
SEGMENTS_LISTED = 6  # of a playlist; older ones are removed
SEND_BUFFER_BYTES = 1 << 18  # half a second at 4 Mbit/s: a larger one would delay a slow viewer by as much
DATAGRAM_BYTES = 1316  # seven packets of MPEG-TS, which fit into one packet of Ethernet
WHIP = {"whip": "http", "whip+https": "https"}  # scheme -> that of the requests
SETTINGS = ("bitrate", "keyframe-interval", "encoder", "verify", "token")
TOKEN_VARIABLE = "CYCLECAST_WHIP_TOKEN"
USAGE = "settings follow a #, such as #bitrate=4M&keyframe-interval=2&encoder=software"


@dataclass(frozen=True, kw_only=True)
class OutputAddress:
    """A network output: where it goes and how it is encoded."""

    name: str
    """For messages: without user, password, path and parameters, which may be secrets."""
    url: str
    """What FFmpeg opens; secret."""
    muxer: str
    """FFmpeg's name."""
    options: dict[str, str] = field(default_factory=dict)
    """Options of the muxer."""
    bit_rate: int
    """Bits per second."""
    keyframe_interval: float
    """Seconds."""
    encoder: str = "auto"
    """As `choose_encoder` takes it: auto, software, or hardware."""
    playlist: Path | None = None
    """The file of an HLS output."""


def is_playlist(address: str) -> bool:
    """Returns whether the address is a path of an HLS playlist."""
    path = address.partition("#")[0]
    return url_scheme(path) in ("", "file") and path.lower().endswith(PLAYLIST)


def playlist_path(address: str) -> Path | None:
    """Returns the playlist that an HLS output writes: FOLDER/live.m3u8 for hls://FOLDER. None for other addresses."""
    path = address.partition("#")[0]
    if url_scheme(path) == "hls":
        return Path(path.partition("://")[2]) / f"live{PLAYLIST}"
    return Path(file_path(path)) if is_playlist(address) else None


def parse_output(address: str, settings: StreamSettings, overwrite: bool = False) -> OutputAddress:
    """Reads the address of a network output.

    Raises ConfigError for settings that are none, OutputExistsError for a playlist that exists (unless `overwrite`), MissingSink
    if this FFmpeg lacks the protocol. No error shows the path, a password, or a setting's value.
    """
    url, _, fragment = address.partition("#")
    name, scheme = host_address(url), url_scheme(url)
    own = _parse_settings(fragment, name)
    try:
        settings = StreamSettings(
            bit_rate=parse_bit_rate(own["bitrate"]) if "bitrate" in own else settings.bit_rate,
            keyframe_interval=parse_keyframe_interval(own["keyframe-interval"])
            if "keyframe-interval" in own
            else settings.keyframe_interval,
        )
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    encoder = own.get("encoder", "auto")
    if encoder not in ("auto", "software", *HARDWARE):
        raise ConfigError(f"{name}: expected encoder=auto, encoder=software, or one of {', '.join(HARDWARE)}")
    if own.get("verify", "yes") not in ("yes", "no") or ("verify" in own and scheme != "rtmps"):
        raise ConfigError(f"{name}: expected verify=yes or verify=no, for rtmps:// only")
    if "token" in own and scheme not in WHIP:
        raise ConfigError(f"{name}: expected token=TOKEN for whip:// only")
    playlist = None
    if scheme in WHIP:
        muxer, target, options = _whip(url, scheme, name, own.get("token") or os.environ.get(TOKEN_VARIABLE))
    elif (playlist := playlist_path(url)) is not None:
        muxer, target, options = _hls(playlist, url, settings.keyframe_interval, overwrite)
    else:
        muxer, target, options = _stream(url, scheme, name, own.get("verify") != "no")
    return OutputAddress(
        name=str(playlist) if playlist is not None else name,
        url=target,
        muxer=muxer,
        options=options,
        bit_rate=settings.bit_rate,
        keyframe_interval=settings.keyframe_interval,
        encoder=encoder,
        playlist=playlist,
    )


def _parse_settings(fragment: str, name: str) -> dict[str, str]:
    pairs = parse_qsl(fragment, keep_blank_values=True)
    found = dict(pairs)
    if fragment and (not pairs or found.keys() - set(SETTINGS) or len(found) != len(pairs)):
        raise ConfigError(
            f"{name}: expected the settings {', '.join(SETTINGS)}, each once at most; {USAGE}; type # in a path as %23"
        )
    return found


def _hls(playlist: Path, url: str, interval: float, overwrite: bool) -> tuple[str, str, dict[str, str]]:
    """Returns muxer, target and options of a playlist."""
    if url.endswith("://"):
        raise ConfigError(f"{url}: expected a folder; type hls://FOLDER")
    if not overwrite and playlist.exists():
        raise OutputExistsError(f"{playlist}: exists already; --overwrite replaces it")
    options = {
        "hls_time": f"{interval:g}",
        "hls_list_size": str(SEGMENTS_LISTED),
        "hls_flags": "delete_segments+independent_segments+temp_file",
        "hls_segment_filename": str(playlist.with_name(f"{playlist.stem.replace('%', '%%')}-%05d.ts")),
    }
    return "hls", str(playlist), options


def _stream(url: str, scheme: str, name: str, verify: bool) -> tuple[str, str, dict[str, str]]:
    """Returns muxer, target and options of an output over the network."""
    if not host_address(url).partition("://")[2].strip("/."):
        raise ConfigError(f"{name}: expected a host; type {scheme}://HOST:PORT/PATH")
    if scheme in ("rtsp", "rtsps"):
        return "rtsp", url, {"rtsp_transport": "tcp"}
    if scheme in ("rtmp", "rtmps"):  # only a muxer inside `tee` hands options on to the connection
        options = {"f": "flv", "onfail": "abort", "flvflags": "no_duration_filesize", "send_buffer_size": str(SEND_BUFFER_BYTES)}
        if scheme == "rtmps" and verify:
            options |= {"tls_verify": "1"} | _authorities()
        settings = ":".join(f"{key}={_escape(value, ':]')}" for key, value in options.items())
        return "tee", f"[{settings}]{_escape(url, '|')}", {}
    if scheme == "srt" and not has_protocol("srt"):
        raise MissingSink(f"{name}: this build of FFmpeg has no SRT; send rtmp:// or udp:// to a server that forwards it as SRT")
    if "pkt_size=" not in url:
        url += f"{'&' if '?' in url else '?'}pkt_size={DATAGRAM_BYTES}"
    return "mpegts", url, {"flush_packets": "1"}


def _whip(url: str, scheme: str, name: str, token: str | None) -> tuple[str, str, dict[str, str]]:
    """Returns muxer, address and options for a WHIP server."""
    if importlib.util.find_spec("aiortc") is None:
        raise MissingSink(f"{name}: aiortc is not installed: pip install 'cyclecast[web]'")
    if not host_address(url).partition("://")[2].strip("/."):
        raise ConfigError(f"{name}: expected a host; type {scheme}://HOST:PORT/PATH")
    if token and not re.fullmatch(r"[!-~]+", token):
        raise ConfigError(f"{name}: a token has no spaces and no letters outside of ASCII")
    return "whip", f"{WHIP[scheme]}://{url.partition('://')[2]}", {"token": token} if token else {}


def _authorities() -> dict[str, str]:
    """Returns the option that names the system's list of certificate authorities; none if the system has no such file."""
    file = ssl.get_default_verify_paths().cafile
    return {"ca_file": file} if file else {}


def _escape(text: str, special: str) -> str:
    """Escapes what `tee` would read as its own syntax."""
    return "".join(f"\\{character}" if character in f"\\'{special}" else character for character in text)


def has_protocol(scheme: str) -> bool:
    """Returns whether this FFmpeg was built with the protocol. Connects to nothing."""
    try:
        av.open(f"{scheme}://", timeout=1.0).close()
    except av.error.ProtocolNotFoundError:
        return False
    except (av.FFmpegError, OSError, ValueError):
        return True
    return True
