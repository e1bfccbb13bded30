# finds UndefinedArgInFrom at 3
ARG DEBIAN=12
FROM debian:${DEBAIN:-12}
