# finds JSONArgsRecommended at 3
FROM scratch
CMD run
FROM scratch
SHELL ["/sh", "-c"]
CMD run
