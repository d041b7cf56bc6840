/* A closed-loop HTTP/1.1 load generator: one thread, epoll, one fixed request on every connection, every answer checked.
 *
 *   load --port P --connections C --request FILE (--expect FILE | --contains TEXT)
 *        [--seconds S] [--warmup S] | [--requests N]    a window of time after a warm-up, or an exact number of calls
 *        [--stream] [--events N]                        answers are event streams that must end with [DONE] (and have N events)
 *        [--cpu-of PID,PID,...]                         CPU time that these processes used within the window
 *        [--pace US]                                    each connection sends at most one call in so many microseconds
 *        [--refusals]                                   429 and 503 are no errors, but counted and timed by themselves
 *
 * Prints one JSON object; times are in nanoseconds. An error is any answer that is not 200, not the expected body, broken or cut;
 * errors of the warm-up count too. Exit 0 even with errors: the reader judges. */
#define _GNU_SOURCE
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PARTIAL = 65536, MAX_PIDS = 64, MAX_ERRORS = 100, DONE_BYTES = 14, DRAIN_SECONDS = 10 };
static const char DONE[] = "data: [DONE]\n\n";

struct connection {
    int fd, in_body, closing, wrong, line_open, refused, waits;
    size_t partial_length, taken;
    struct body body;
    uint64_t sent_at, events;
    char tail[DONE_BYTES];
    char partial[PARTIAL]; /* a head that has not arrived whole; or, with --contains, the body so far */
};

struct samples {
    uint64_t *values;
    size_t count, room;
};

static struct {
    int port, connections, stream, refusals;
    double seconds, warmup;
    uint64_t requests, events, pace_ns;
    char *request, *expected, *contains;
    size_t request_size, expected_size;
    pid_t pids[MAX_PIDS];
    int pid_count;
} option = {.connections = 1, .seconds = 1, .warmup = 0.3};

static struct samples latency, first_chunk, refusal;
static uint64_t requests, sent, events, errors, active;
static uint64_t window_start, window_end, cpu_start[MAX_PIDS], cpu_used[MAX_PIDS];
static int measuring, stopping, poll_fd;
static char first_error[512];
static char buffer[PARTIAL + (1 << 18)];

static void add(struct samples *s, uint64_t value) {
    if (s->count == s->room) {
        s->room = s->room ? s->room * 2 : 1 << 16;
        s->values = realloc(s->values, s->room * sizeof *s->values);
        if (!s->values) die("realloc");
    }
    s->values[s->count++] = value;
}

static int by_size(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static uint64_t cpu_ns(pid_t pid) {
    clockid_t clock;
    struct timespec t;
    if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &t)) return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void open_window(void) {
    requests = events = latency.count = first_chunk.count = refusal.count = 0;
    for (int i = 0; i < option.pid_count; i++) cpu_start[i] = cpu_ns(option.pids[i]);
    window_start = now_ns();
    measuring = 1;
}

static void close_window(void) {
    window_end = now_ns();
    for (int i = 0; i < option.pid_count; i++) cpu_used[i] = cpu_ns(option.pids[i]) - cpu_start[i];
    measuring = 0;
    stopping = 1;
}

static void note_error(const char *what, const char *text, size_t n) {
    if (!errors++) snprintf(first_error, sizeof first_error, "%s: %.*s", what, (int)(n > 300 ? 300 : n), text);
    if (errors >= MAX_ERRORS && !stopping) close_window();
}

static void dial(struct connection *c) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)option.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof a)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &e);
}

static void redial(struct connection *c) {
    close(c->fd);
    dial(c);
}

/* Sends block (the peer reads), receives do not: so a large request needs no second state. */
static void ask(struct connection *c) {
    if (option.requests && sent == option.requests) {
        if (!active && !stopping) close_window();
        return;
    }
    if (stopping) return;
    c->in_body = c->closing = c->wrong = c->line_open = c->refused = c->waits = 0;
    c->partial_length = c->taken = 0;
    c->events = 0;
    memset(c->tail, 0, DONE_BYTES);
    sent++;
    active++;
    c->sent_at = now_ns();
    for (size_t at = 0; at < option.request_size;) {
        ssize_t n = send(c->fd, option.request + at, option.request_size - at, MSG_NOSIGNAL);
        if (n < 0) return; /* the receive that follows reports the closed connection */
        at += (size_t)n;
    }
}

static void ask_in_turn(struct connection *c) {
    c->waits = option.pace_ns && !stopping && now_ns() < c->sent_at + option.pace_ns;
    if (!c->waits) ask(c);
}

static void ask_due(struct connection *all, int count) {
    uint64_t now = now_ns();
    for (int i = 0; i < count; i++)
        if (all[i].waits && now >= all[i].sent_at + option.pace_ns) ask(&all[i]);
}

static void fail(struct connection *c, const char *what, const char *text, size_t n) {
    note_error(what, text, n);
    active--;
    redial(c);
    ask_in_turn(c);
}

static void take_stream(struct connection *c, const char *span, size_t n) {
    uint64_t found = 0;
    if (!c->taken && measuring) add(&first_chunk, now_ns() - c->sent_at);
    for (const char *p = span, *end = span + n, *line; p < end; p = line + 1) {
        line = memchr(p, '\n', (size_t)(end - p));
        if (!line) {
            c->line_open = 1;
            break;
        }
        if (line == p && !c->line_open) found++;
        c->line_open = 0;
    }
    c->events += found;
    if (measuring) events += found;
    size_t keep = n < DONE_BYTES ? DONE_BYTES - n : 0;
    memmove(c->tail, c->tail + DONE_BYTES - keep, keep);
    memcpy(c->tail + keep, span + n - (DONE_BYTES - keep), DONE_BYTES - keep);
}

static void take(struct connection *c, const char *span, size_t n) {
    if (c->refused) {
        return;
    } else if (option.stream) {
        take_stream(c, span, n);
    } else if (option.expected) {
        if (c->taken + n > option.expected_size || memcmp(option.expected + c->taken, span, n)) c->wrong = 1;
    } else if (c->taken + n < PARTIAL) {
        memcpy(c->partial + c->taken, span, n);
    }
    c->taken += n;
}

static const char *judge(const struct connection *c) {
    if (option.stream && memcmp(c->tail, DONE, DONE_BYTES)) return "stream without [DONE]";
    if (option.stream) return option.events && c->events != option.events ? "stream with a wrong number of events" : NULL;
    if (option.expected) return c->wrong || c->taken != option.expected_size ? "not the expected body" : NULL;
    size_t kept = c->taken < PARTIAL ? c->taken : 0;
    return memmem(c->partial, kept, option.contains, strlen(option.contains)) ? NULL : "body lacks the expected text";
}

static void finish(struct connection *c) {
    const char *fault = c->refused ? NULL : judge(c);
    if (fault) {
        fail(c, fault, c->tail, option.stream ? DONE_BYTES : 0);
        return;
    }
    if (measuring) add(c->refused ? &refusal : &latency, now_ns() - c->sent_at);
    requests += !c->refused;
    active--;
    if (c->closing) redial(c);
    ask_in_turn(c);
}

/* 1: the head is there and good, `*in` stands behind it. */
static int take_head(struct connection *c, const char **in, size_t n) {
    struct head h;
    if (!head_parse(*in, n, &h)) {
        if (n >= PARTIAL) fail(c, "head too large", *in, n);
        else memcpy(c->partial, *in, c->partial_length = n);
        return 0;
    }
    c->refused = option.refusals && (h.status == 429 || h.status == 503);
    if ((h.status != 200 && !c->refused) || (!h.chunked && h.content_length < 0)) {
        fail(c, "refused", *in, n);
        return 0;
    }
    c->partial_length = 0;
    c->in_body = 1;
    c->closing = h.closing;
    body_start(&c->body, &h);
    *in += h.length;
    return 1;
}

static void receive(struct connection *c) {
    memcpy(buffer, c->partial, c->partial_length);
    ssize_t got = recv(c->fd, buffer + c->partial_length, sizeof buffer - c->partial_length, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        fail(c, "connection closed", "", 0);
        return;
    }
    const char *in = buffer, *end = buffer + c->partial_length + got, *span;
    if (!c->in_body && !take_head(c, &in, (size_t)(end - in))) return;
    for (size_t n; (n = body_next(&c->body, &in, end, &span));) take(c, span, n);
    if (c->body.state == BODY_BROKEN || in < end) fail(c, "broken framing", in, (size_t)(end - in));
    else if (c->body.state == BODY_DONE) finish(c);
}

static void print_text(const char *text) {
    putchar('"');
    for (; *text; text++) {
        unsigned char ch = (unsigned char)*text;
        if (ch == '"' || ch == '\\') printf("\\%c", ch);
        else if (ch < 32 || ch > 126) printf("\\u%04x", ch);
        else putchar(ch);
    }
    putchar('"');
}

static void print_samples(const char *name, struct samples *s) {
    static const struct { const char *name; double share; } wanted[] = {{"p50", .5}, {"p90", .9}, {"p99", .99}, {"p999", .999}};
    qsort(s->values, s->count, sizeof *s->values, by_size);
    printf(", \"%s\": {\"count\": %zu", name, s->count);
    for (size_t i = 0; s->count && i < sizeof wanted / sizeof *wanted; i++) {
        size_t rank = (size_t)(wanted[i].share * (double)s->count);
        printf(", \"%s\": %llu", wanted[i].name, (unsigned long long)s->values[rank < s->count ? rank : s->count - 1]);
    }
    printf("}");
}

static void report(void) {
    printf("{\"requests\": %llu, \"errors\": %llu, \"events\": %llu, \"window\": %llu, \"first_error\": ",
        (unsigned long long)requests, (unsigned long long)errors, (unsigned long long)events, (unsigned long long)(window_start ? window_end - window_start : 0));
    print_text(first_error);
    print_samples("latency", &latency);
    print_samples("first_chunk", &first_chunk);
    print_samples("refusal", &refusal);
    printf(", \"cpu\": {");
    for (int i = 0; i < option.pid_count; i++) printf("%s\"%d\": %llu", i ? ", " : "", (int)option.pids[i], (unsigned long long)cpu_used[i]);
    printf("}}\n");
}

static void read_pids(char *list) {
    for (char *pid = strtok(list, ","); pid && option.pid_count < MAX_PIDS; pid = strtok(NULL, ",")) option.pids[option.pid_count++] = atoi(pid);
}

static void read_options(int argc, char **argv) {
    static const struct option names[] = {
        {"port", 1, 0, 'p'}, {"connections", 1, 0, 'c'}, {"seconds", 1, 0, 's'}, {"warmup", 1, 0, 'w'}, {"requests", 1, 0, 'n'},
        {"request", 1, 0, 'r'}, {"expect", 1, 0, 'e'}, {"contains", 1, 0, 't'}, {"stream", 0, 0, 'S'}, {"events", 1, 0, 'E'}, {"cpu-of", 1, 0, 'P'},
        {"pace", 1, 0, 'a'}, {"refusals", 0, 0, 'f'}, {0}};
    for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;) switch (o) {
        case 'p': option.port = atoi(optarg); break;
        case 'c': option.connections = atoi(optarg); break;
        case 's': option.seconds = atof(optarg); break;
        case 'w': option.warmup = atof(optarg); break;
        case 'n': option.requests = (uint64_t)atoll(optarg); break;
        case 'r': option.request = read_file(optarg, &option.request_size); break;
        case 'e': option.expected = read_file(optarg, &option.expected_size); break;
        case 't': option.contains = optarg; break;
        case 'S': option.stream = 1; break;
        case 'E': option.events = (uint64_t)atoll(optarg); break;
        case 'P': read_pids(optarg); break;
        case 'a': option.pace_ns = (uint64_t)atoll(optarg) * 1000u; break;
        case 'f': option.refusals = 1; break;
        default: exit(2);
    }
    if (!option.port || !option.request || !(option.expected || option.contains || option.stream)) exit((fprintf(stderr, "missing option; see the top of load.c\n"), 2));
    if (option.requests) option.warmup = 0;
}

/* Streams begin spread over the warm-up, so that their events do not march in step. */
static int start_more(struct connection *all, int started, double elapsed) {
    double share = option.stream && option.warmup > 0 ? elapsed / option.warmup : 1;
    int wanted = share >= 1 ? option.connections : (int)(share * option.connections);
    while (started < wanted) ask(&all[started++]);
    return started;
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){8192, 8192});
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    struct connection *all = calloc((size_t)option.connections, sizeof *all);
    for (int i = 0; i < option.connections; i++) dial(&all[i]);
    uint64_t begin = now_ns();
    int started = 0, seen_window = 0;
    struct epoll_event ready[512];
    for (;;) {
        double elapsed = (double)(now_ns() - begin) / 1e9;
        if (started < option.connections && !stopping) started = start_more(all, started, elapsed);
        if (!seen_window && !stopping && elapsed >= option.warmup) seen_window = 1, open_window();
        if (measuring && !option.requests && elapsed >= option.warmup + option.seconds) close_window();
        if (stopping && (!option.stream || !active || elapsed > option.warmup + option.seconds + DRAIN_SECONDS)) break;
        if (option.pace_ns && !stopping) ask_due(all, started);
        int n = epoll_wait(poll_fd, ready, 512, started < option.connections || option.pace_ns ? 1 : 10);
        for (int i = 0; i < n && (!stopping || option.stream); i++) receive(ready[i].data.ptr);
    }
    report();
}
