# Both services as static binaries on an empty base: nothing to patch, nothing to
# log in to. Plain enough for the legacy builder and for BuildKit.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN mkdir -p /out/empty && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o /out/ ./services/sender ./services/receiver

FROM scratch AS receiver
COPY --from=build /out/receiver /receiver
COPY --from=build --chown=65532:65532 /out/empty /data
COPY --from=build --chown=65532:65532 /out/empty /secrets
USER 65532:65532
EXPOSE 7400 7401 7402/udp 7403
HEALTHCHECK --interval=5s --timeout=3s --retries=6 CMD ["/receiver", "healthcheck"]
ENTRYPOINT ["/receiver"]
CMD ["serve"]

FROM scratch AS sender
COPY --from=build /out/sender /sender
COPY --from=build --chown=65532:65532 /out/empty /state
COPY --from=build --chown=65532:65532 /out/empty /outbox
COPY --from=build --chown=65532:65532 /out/empty /secrets
USER 65532:65532
EXPOSE 7410 7412/udp 7413
HEALTHCHECK --interval=5s --timeout=3s --retries=6 CMD ["/sender", "healthcheck"]
ENTRYPOINT ["/sender"]
CMD ["serve"]
