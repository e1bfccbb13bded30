FROM scratch AS unused
RUN false
FROM scratch
COPY f /f
