"""Reports: self-contained HTML pages, and the charts in them."""
