# finds CopyBeforeInstall at 4
FROM debian:12
WORKDIR /app
COPY . .
RUN npm ci
