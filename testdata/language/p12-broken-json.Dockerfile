FROM scratch
CMD ["a", 'b']
VOLUME [/a,/b]
