# The light install of vqatool: ladder, label, score and all that needs no torch. See docs/howto/batch-systems.md.
#
#   docker build -t vqatool .
#   docker build -t vqatool-ray --build-arg EXTRAS='[cluster]' --build-arg PACKAGES=wget .

FROM python:3.13-slim AS build
WORKDIR /src
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY ladder ladder
COPY vqatool vqatool
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
# extras of the wheel, such as [cloud,parquet], and packages of the system
ARG EXTRAS=""
ARG PACKAGES=""
LABEL org.opencontainers.image.title="vqatool" \
      org.opencontainers.image.description="Bitrate ladders, VMAF labels, and a no-reference model that scores directories of video" \
      org.opencontainers.image.licenses="MIT AND GPL-3.0-or-later"
RUN test -z "$PACKAGES" || (apt-get update && apt-get install -y --no-install-recommends $PACKAGES && rm -rf /var/lib/apt/lists/*)
COPY constraints.txt /usr/share/doc/vqatool/constraints.txt
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir -c /usr/share/doc/vqatool/constraints.txt "$(ls /wheels/*.whl)$EXTRAS"
# ffmpeg comes in a wheel and is under the GPL: its notice, and what it says of itself
COPY docker/NOTICE /usr/share/doc/vqatool/NOTICE
RUN "$(python -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())')" -L > /usr/share/doc/vqatool/ffmpeg-licence.txt
RUN useradd --uid 10001 --user-group --create-home vqatool
# a number, so that Kubernetes sees that it is not root
USER 10001:10001
# a root that is read-only has a writable /tmp
ENV XDG_CACHE_HOME=/tmp/cache PYTHONDONTWRITEBYTECODE=1
WORKDIR /work
ENTRYPOINT ["vqatool"]
CMD ["--help"]
