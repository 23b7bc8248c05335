"""The seam where a wire value becomes a ReadingBatch."""
