FROM scratch
ENV V=1.2.3-rc.1 P=/x/y.tar.gz
ENV A=${V%%-*} B=${V#*.} C=${V/./_} D=${V//./_} E=${P##*/} F=${P%.*} G=${P/\?/q} H=${P/[x]/q}
