# finds ReservedStageName at 2
FROM debian:12 AS context
RUN true
