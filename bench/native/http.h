/* What both sides of the bench need of HTTP/1.1: the head's fields that matter, and bodies cut in any way. */
#ifndef BENCH_HTTP_H
#define BENCH_HTTP_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

struct head {
    size_t length;          /* bytes of the head, blank line included */
    int status;             /* of a response; 0 for a request */
    int chunked, closing;
    int64_t content_length; /* -1 when absent */
};

enum body_state { BODY_PLAIN, BODY_SIZE, BODY_EXTENSION, BODY_CHUNK, BODY_CHUNK_END, BODY_TRAILER, BODY_DONE, BODY_BROKEN };

struct body {
    enum body_state state;
    uint64_t left; /* bytes of the plain body or of the current chunk still to come */
    int line;      /* bytes seen in the current trailer line */
};

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void die(const char *what) {
    perror(what);
    exit(2);
}

static inline char *read_file(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    if (!f) die(path);
    fseek(f, 0, SEEK_END);
    long n = ftell(f);
    rewind(f);
    char *data = malloc((size_t)n + 1);
    if (!data || fread(data, 1, (size_t)n, f) != (size_t)n) die(path);
    fclose(f);
    data[n] = 0;
    *size = (size_t)n;
    return data;
}

/* 1: `h` is filled. 0: more bytes are needed. */
static inline int head_parse(const char *p, size_t n, struct head *h) {
    const char *end = memmem(p, n, "\r\n\r\n", 4);
    if (!end) return 0;
    *h = (struct head){.length = (size_t)(end - p) + 4, .content_length = -1};
    if (n > 12 && !memcmp(p, "HTTP/1.", 7)) h->status = atoi(p + 9);
    for (const char *line = memchr(p, '\n', n) + 1; line < end; line = (const char *)memchr(line, '\n', (size_t)(end + 2 - line)) + 1) {
        char first = (char)(*line | 0x20);
        if (first == 'c' && !strncasecmp(line, "content-length:", 15)) h->content_length = atoll(line + 15);
        else if (first == 'c' && !strncasecmp(line, "connection: close", 17)) h->closing = 1;
        else if (first == 't' && !strncasecmp(line, "transfer-encoding: chunked", 26)) h->chunked = 1;
    }
    return 1;
}

static inline void body_start(struct body *b, const struct head *h) {
    *b = (struct body){.state = h->chunked ? BODY_SIZE : BODY_PLAIN};
    if (!h->chunked) {
        b->left = h->content_length > 0 ? (uint64_t)h->content_length : 0;
        if (!b->left) b->state = BODY_DONE;
    }
}

static inline int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static inline void body_framing(struct body *b, char c) {
    int digit;
    switch (b->state) {
    case BODY_SIZE:
        if ((digit = hex_digit(c)) >= 0) b->left = b->left * 16 + (uint64_t)digit;
        else if (c == ';') b->state = BODY_EXTENSION;
        else if (c == '\n') b->state = b->left ? BODY_CHUNK : BODY_TRAILER;
        else if (c != '\r') b->state = BODY_BROKEN;
        break;
    case BODY_EXTENSION:
        if (c == '\n') b->state = b->left ? BODY_CHUNK : BODY_TRAILER;
        break;
    case BODY_CHUNK_END:
        if (c == '\n') b->state = BODY_SIZE;
        else if (c != '\r') b->state = BODY_BROKEN;
        break;
    case BODY_TRAILER:
        if (c == '\n' && !b->line) b->state = BODY_DONE;
        else if (c == '\n') b->line = 0;
        else if (c != '\r') b->line++;
        break;
    default:
        b->state = BODY_BROKEN;
    }
}

/* Advances `*in` to `end` or to the end of the body; returns the length of the next run of data at `*span`, 0 when none is left. */
static inline size_t body_next(struct body *b, const char **in, const char *end, const char **span) {
    while (*in < end && b->state < BODY_DONE) {
        if (b->state != BODY_PLAIN && b->state != BODY_CHUNK) {
            body_framing(b, *(*in)++);
            continue;
        }
        size_t n = (size_t)(end - *in);
        if (n > b->left) n = (size_t)b->left;
        *span = *in;
        *in += n;
        b->left -= n;
        if (!b->left) b->state = b->state == BODY_PLAIN ? BODY_DONE : BODY_CHUNK_END;
        return n;
    }
    return 0;
}
#endif
