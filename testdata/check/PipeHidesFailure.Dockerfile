# finds PipeHidesFailure at 3
FROM debian:12
RUN curl -f https://h.invalid/x | tar x
RUN set -o pipefail; curl -f https://h.invalid/x | tar x
