"""Files, stages on disk, processes, progress, interruption; no models here."""
