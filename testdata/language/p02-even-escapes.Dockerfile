FROM scratch
ENV A=x\\
ENV B=y
