FROM scratch
RUN ["a", 2]
ENTRYPOINT [true]
