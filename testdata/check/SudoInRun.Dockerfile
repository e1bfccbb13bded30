# finds SudoInRun at 3
FROM debian:12
RUN sudo make
