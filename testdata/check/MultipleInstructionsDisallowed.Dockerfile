# finds MultipleInstructionsDisallowed at 3
FROM scratch
CMD ["a"]
CMD ["b"]
