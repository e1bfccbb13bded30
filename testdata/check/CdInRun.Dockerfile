# finds CdInRun at 3
FROM debian:12
RUN cd /src
RUN cd /src && make
