"""The page as one HTML document: page.html with its style sheet and scripts inlined, and the policy that allows only those."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

FOLDER = Path(__file__).with_name("static")


def inlined_page(name: str = "page.html") -> str:
    """Returns an HTML file with each <link rel="stylesheet"> and <script src> replaced by the file's content."""
    page = _read(name)
    page = re.sub(r'<link rel="stylesheet" href="([\w.]+)">', lambda match: f"<style>\n{_read(match[1])}</style>", page)
    return re.sub(r'<script src="([\w.]+)"></script>', lambda match: f"<script>\n{_read(match[1])}</script>", page)


def content_security_policy(page: str) -> str:
    """Returns the Content-Security-Policy: only the page's own scripts, styles and forms, and nothing from other hosts."""
    sources = {
        tag: " ".join(f"'sha256-{_sha256(text)}'" for text in re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)) or "'none'"
        for tag in ("script", "style")
    }
    form_action = "'self'" if '<form method="get">' in page else "'none'"
    return (
        f"default-src 'none'; script-src {sources['script']}; style-src {sources['style']}; img-src 'self' data:; "
        f"connect-src 'self'; base-uri 'none'; form-action {form_action}; frame-ancestors 'none'"
    )


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
