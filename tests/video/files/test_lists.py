"""A file that names other files is called what it is, and FFmpeg does not follow it, whatever its suffix says."""

from __future__ import annotations

import re
from pathlib import Path

import av
import pytest

from cyclecast.errors import InputError
from cyclecast.video.convert.convert import convert_file
from cyclecast.video.files.lists import LOCAL_LISTS
from cyclecast.video.files.reader import VideoFile
from cyclecast.video.live.sources.network import open_stream
from cyclecast.video.live.sources.playback import open_playback
from cyclecast.video.live.sources.source import CaptureSettings
from tests.conftest import Negative

LISTS = {
    "an ffconcat list": "ffconcat version 1.0\nfile secret.mp4\n",
    "an HLS playlist": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "a DASH manifest": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>\n',
    "a session description (SDP)": "v=0\no=- 1 1 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_named_and_not_followed(name: str, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.mp4").write_bytes(clip.read_bytes())
    path = tmp_path / "video.mp4"
    path.write_text(LISTS[name], newline="")
    message = re.escape(f"{path}: {name}, which names other files, not a video; convert those")
    with pytest.raises(InputError, match=message):
        convert_file(path, tmp_path / "out.mp4", Negative())
    with pytest.raises(InputError, match=message):
        open_playback(str(path), CaptureSettings())
    with pytest.raises(InputError):
        open_stream(path.as_uri(), CaptureSettings())
    assert not (tmp_path / "out.mp4").exists()


def test_ffmpeg_would_follow_a_list_whose_beginning_is_not_recognized(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cyclecast.video.files.opening.describe_list", lambda path: None)
    (tmp_path / "secret.mp4").write_bytes(clip.read_bytes())
    path = tmp_path / "video.mp4"
    path.write_text(LISTS["an ffconcat list"])
    with av.open(str(path)) as container:
        assert container.format.name == "concat"
    with pytest.raises(InputError, match=r"video\.mp4: cannot be read as a video"):
        VideoFile(path)


def test_the_formats_of_lists_are_known_to_this_ffmpeg() -> None:
    """A name that FFmpeg changes would open the door again."""
    assert LOCAL_LISTS - av.formats_available <= {"imf"}  # not in every build
