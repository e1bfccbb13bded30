# finds JSONArgsRecommended at 4
# finds BrokenJsonForm at 4
FROM scratch
CMD ["a", 'b']
