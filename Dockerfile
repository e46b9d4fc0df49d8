# The server for people: built in one image, run in another.
#
#   docker build --tag myelin .
#
# Settings are variables (docs/config.md) or a file named by MYELIN_CONFIG; docs/operating.md goes through it.
# It wants neither BuildKit nor anything but these two images and the registries of Debian and of Rust.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package myelin

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates curl \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 8008 myelin \
    && useradd --uid 8008 --gid myelin --home-dir /var/lib/myelin --shell /usr/sbin/nologin myelin \
    && install --directory --owner=myelin --group=myelin --mode=0700 /var/lib/myelin
COPY --from=build /src/target/release/myelin /usr/local/bin/myelin

# Inside a container the port must be open to the outside of it; what reaches it is for `--publish` to say.
ENV MYELIN_DATA_DIR=/var/lib/myelin \
    MYELIN_LISTENERS_0_BIND=0.0.0.0:8008
USER myelin
WORKDIR /var/lib/myelin
VOLUME /var/lib/myelin
EXPOSE 8008 8448
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["curl", "--fail", "--silent", "--show-error", "--max-time", "4", "http://127.0.0.1:8008/health"]
ENTRYPOINT ["/usr/local/bin/myelin"]
CMD ["serve"]
