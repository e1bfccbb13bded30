FROM scratch AS base
CMD ["inherited"]
FROM base
ENTRYPOINT ["e"]
FROM base
CMD ["own"]
ENTRYPOINT ["e"]
