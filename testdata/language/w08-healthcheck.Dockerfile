FROM scratch
HEALTHCHECK --interval=1m30s --timeout=3s --start-period=5s --start-interval=500ms --retries=4 CMD curl -f x || exit 1
