# finds ExposeProtoCasing at 3
FROM scratch
EXPOSE 53/UDP
EXPOSE 53/udp
