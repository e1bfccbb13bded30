# finds AptGetInstallWithoutUpdate at 3
FROM debian:12
RUN apt-get install -y gcc && rm -rf /var/lib/apt/lists/*
