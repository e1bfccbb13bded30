FROM scratch AS a
COPY one /
FROM scratch AS a
COPY two /
FROM a
COPY three /
