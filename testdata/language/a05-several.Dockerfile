FROM scratch
ARG A B=2 C="x y"
RUN x
