"""Tags of a file or a track: which ones the output keeps, and how MP4 and QuickTime hold them."""

from __future__ import annotations

# Tags that the container writes itself, or that are true for the source only.
OWN_TAGS = frozenset(
    {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "vendor_id", "bps", "number_of_frames"}
    | {"number_of_bytes", "filename", "mimetype", "rotate", "timecode", "alpha_mode"}
)
# Tags that QuickTime and MP4 hold in boxes of their own, by FFmpeg's names, apart from sort_*. Others need a list of keys.
MP4_TAGS = frozenset(
    {"title", "artist", "album_artist", "composer", "album", "date", "comment", "genre", "copyright", "grouping", "lyrics"}
    | {"description", "synopsis", "show", "episode_id", "network", "keywords", "season_number", "episode_sort", "media_type"}
    | {"hd_video", "gapless_playback", "compilation", "disc", "track", "location", "creation_time", "encoding_tool"}
)


def kept_tags(tags: dict[str, str]) -> dict[str, str]:
    """Returns the tags that are also true of the output. Matroska's names may end in a language, as in BPS-eng."""
    return {key: value for key, value in tags.items() if key.lower().split("-")[0] not in OWN_TAGS and "_STAT" not in key}


def needs_keys(tags: dict[str, str]) -> bool:
    """Returns whether QuickTime and MP4 need a list of keys for these tags, as an iPhone's `com.apple.quicktime.make`."""
    names = (key.lower().split("-")[0] for key in tags)
    return any(name not in MP4_TAGS and not name.startswith("sort_") for name in names)
