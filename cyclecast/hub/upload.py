"""Uploads a style to Hugging Face's hub. Needs the extra `hub`, which knows its protocols, and the user's token."""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi

from cyclecast.errors import OutputError, OutputExistsError
from cyclecast.hub.share import SharedStyle
from cyclecast.runtime.remote.address import hub_endpoint

log = logging.getLogger(__name__)


def upload_style(style: SharedStyle, repository: str, overwrite: bool = False) -> str:
    """Uploads the files in one commit, and creates the repository if there is none. Returns the address of its page.

    repository: user/name. Raises OutputExistsError if one of the files exists there (unless `overwrite`), and OutputError if the
    hub refuses or cannot be reached.
    """
    endpoint = hub_endpoint()
    try:
        api = HfApi(endpoint=endpoint, library_name="cyclecast")
        api.create_repo(repository, exist_ok=True)
        existing = set(api.list_repo_files(repository))
        taken = sorted(existing & set(style.files))
        if taken and not overwrite:
            raise OutputExistsError(f"hf:{repository}: {', '.join(taken)} exist there already; --overwrite replaces them")
        operations = [CommitOperationAdd(name, content) for name, content in style.files.items()]
        api.create_commit(repository, operations, commit_message=f"{style.card.title}: a style for cyclecast")
    except OutputError:
        raise
    except Exception as error:  # the library's and its transports' errors have no common class
        log.debug("hf:%s: the upload failed", repository, exc_info=True)
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise OutputError(f"hf:{repository}: cannot be uploaded to {urlsplit(endpoint).hostname}: {reason}") from error
    finally:
        huggingface_hub.close_session()
    return f"{endpoint}/{repository}"
