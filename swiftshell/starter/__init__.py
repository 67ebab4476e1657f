"""Ship the embedded default: a tiny bilingual model, its data, its settings, and what made them."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent
MODEL_DIR = ROOT / "model"
DATA_DIR = ROOT / "data"
SETTINGS_FILE = ROOT / "settings.json"
