/* A mock OpenAI upstream on loopback: one thread, epoll, answers rendered before the first request.
 *
 *   upstream PORT [PACE_MS]        port 0 lets the kernel choose; the port is printed on the first line
 *
 * Any request gets a chat completion of 1023 bytes, or of 20 KB when its body contains "bench-20k".
 * A body with "stream":true gets 66 events of 310 bytes, a usage event and [DONE], one every PACE_MS (20; 0: all at once);
 * with "bench-burst" in it they come at once whatever the pace.
 * A body with "bench-responses" gets the same as an answer of Responses: 1023 bytes, or a stream that comes at once. */
#define _GNU_SOURCE
#include "http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { EVENTS = 66, PARTS = EVENTS + 2, EVENT_BYTES = 310, SMALL = 1023, LARGE = 20480, MAX_BODY = 1 << 20 };

struct answer {
    char *bytes;
    size_t part_end[PARTS]; /* where each paced part ends; part 0 includes the head */
    int parts;
};

struct connection {
    int fd, waiting_out;
    char *in;
    size_t in_length, in_room;
    const struct answer *answer; /* NULL between answers */
    size_t sent;
    int part;      /* parts that may be sent by now */
    uint64_t due;  /* when the next part may be sent */
    struct connection *before, *after; /* the pacing queue, ordered by due */
};

static struct answer small_answer, large_answer, stream_answer, response_answer, response_stream;
static struct connection queue = {.before = &queue, .after = &queue};
static uint64_t pace_ns = 20000000;
static int poll_fd;

static void render_completion(struct answer *a, size_t size) {
    static const char front[] =
        "{\"id\":\"chatcmpl-bench000000000000000000\",\"object\":\"chat.completion\",\"created\":1760000000,\"model\":\"gpt-5.4-mini-2026-03-17\","
        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"";
    static const char back[] =
        "\",\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":120,\"completion_tokens\":90,\"total_tokens\":210,"
        "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":0,"
        "\"audio_tokens\":0,\"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}},\"service_tier\":\"default\",\"system_fingerprint\":\"fp_bench\"}";
    static const char words[] = "The gate answers and the meter counts. ";
    a->bytes = malloc(size + 512);
    int head = sprintf(a->bytes,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n"
        "openai-processing-ms: 12\r\nx-request-id: req_bench0000000000000000000000\r\n\r\n", size);
    char *p = a->bytes + head;
    memcpy(p, front, sizeof front - 1);
    p += sizeof front - 1;
    for (size_t i = 0, n = size - (sizeof front - 1) - (sizeof back - 1); i < n; i++) *p++ = words[i % (sizeof words - 1)];
    memcpy(p, back, sizeof back - 1);
    a->part_end[0] = (size_t)head + size;
    a->parts = 1;
}

static char *render_event(char *p, const char *choices, const char *usage, size_t size) {
    char event[1024];
    int used = snprintf(event, sizeof event,
        "data: {\"id\":\"chatcmpl-bench000000000000000000\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,"
        "\"model\":\"gpt-5.4-mini-2026-03-17\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_bench\",\"choices\":[%s],\"usage\":%s,\"obfuscation\":\"",
        choices, usage);
    while ((size_t)used < size - 4) event[used++] = 'x';
    used += sprintf(event + used, "\"}\n\n");
    return p + sprintf(p, "%x\r\n%s\r\n", used, event);
}

static void render_stream(struct answer *a) {
    a->bytes = malloc(PARTS * 1024);
    char *p = a->bytes;
    p += sprintf(p,
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
        "openai-processing-ms: 12\r\nx-request-id: req_bench0000000000000000000000\r\n\r\n");
    for (int i = 0; i < EVENTS; i++) {
        const char *choice = i == EVENTS - 1
            ? "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}"
            : "{\"index\":0,\"delta\":{\"content\":\" token\"},\"logprobs\":null,\"finish_reason\":null}";
        p = render_event(p, choice, "null", EVENT_BYTES);
        a->part_end[i] = (size_t)(p - a->bytes);
    }
    p = render_event(p, "", "{\"prompt_tokens\":120,\"completion_tokens\":66,\"total_tokens\":186}", EVENT_BYTES);
    a->part_end[EVENTS] = (size_t)(p - a->bytes);
    p += sprintf(p, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    a->part_end[EVENTS + 1] = (size_t)(p - a->bytes);
    a->parts = PARTS;
}

#define RESPONSE_HEAD "{\"id\":\"resp_bench00000000000000000000000000000000\",\"object\":\"response\",\"created_at\":1760000000,\"model\":\"gpt-5.4-mini-2026-03-17\","
#define RESPONSE_USAGE "\"usage\":{\"input_tokens\":120,\"input_tokens_details\":{\"cached_tokens\":0},\"output_tokens\":90," \
    "\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":210}"
#define MESSAGE_HEAD "{\"type\":\"message\",\"id\":\"msg_bench000000000000000000000000000000000\",\"status\":\"%s\",\"role\":\"assistant\",\"content\":["
#define TEXT_PLACE "\"item_id\":\"msg_bench000000000000000000000000000000000\",\"output_index\":0,\"content_index\":0,"

/* Renders an answer of Responses whose body has `size` bytes. */
static void render_response(struct answer *a, size_t size) {
    static const char front[] = RESPONSE_HEAD "\"status\":\"completed\"," RESPONSE_USAGE ",\"output\":["
        "{\"type\":\"message\",\"id\":\"msg_bench000000000000000000000000000000000\",\"status\":\"completed\",\"role\":\"assistant\","
        "\"content\":[{\"type\":\"output_text\",\"annotations\":[],\"text\":\"";
    static const char back[] = "\"}]}]}";
    static const char words[] = "The gate answers and the meter counts. ";
    a->bytes = malloc(size + 512);
    int head = sprintf(a->bytes,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n"
        "openai-processing-ms: 12\r\nx-request-id: req_bench0000000000000000000000\r\n\r\n", size);
    char *p = a->bytes + head;
    memcpy(p, front, sizeof front - 1);
    p += sizeof front - 1;
    for (size_t i = 0, n = size - (sizeof front - 1) - (sizeof back - 1); i < n; i++) *p++ = words[i % (sizeof words - 1)];
    memcpy(p, back, sizeof back - 1);
    a->part_end[0] = (size_t)head + size;
    a->parts = 1;
}

static char *render_response_event(char *p, const char *type, int number, const char *rest) {
    char event[4096];
    int used = snprintf(event, sizeof event, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%d,%s}\n\n", type, type, number, rest);
    return p + sprintf(p, "%x\r\n%s\r\n", used, event);
}

static void render_response_stream(struct answer *a) {
    char item[512];
    a->bytes = malloc((EVENTS + 16) * 1024);
    char *p = a->bytes;
    int number = 0;
    p += sprintf(p,
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n"
        "openai-processing-ms: 12\r\nx-request-id: req_bench0000000000000000000000\r\n\r\n");
    p = render_response_event(p, "response.created", number++, "\"response\":" RESPONSE_HEAD "\"status\":\"in_progress\",\"output\":[]}");
    sprintf(item, "\"output_index\":0,\"item\":" MESSAGE_HEAD "]}", "in_progress");
    p = render_response_event(p, "response.output_item.added", number++, item);
    p = render_response_event(p, "response.content_part.added", number++, TEXT_PLACE "\"part\":{\"type\":\"output_text\",\"text\":\"\",\"annotations\":[]}");
    for (int i = 0; i < EVENTS; i++)
        p = render_response_event(p, "response.output_text.delta", number++, TEXT_PLACE "\"delta\":\" token\",\"obfuscation\":\"xxxxxxxxxx\"");
    p = render_response_event(p, "response.output_text.done", number++, TEXT_PLACE "\"text\":\" token\"");
    sprintf(item, "\"output_index\":0,\"item\":" MESSAGE_HEAD "{\"type\":\"output_text\",\"text\":\" token\",\"annotations\":[]}]}", "completed");
    p = render_response_event(p, "response.output_item.done", number++, item);
    p = render_response_event(p, "response.completed", number++, "\"response\":" RESPONSE_HEAD "\"status\":\"completed\",\"output\":[]," RESPONSE_USAGE "}");
    p += sprintf(p, "0\r\n\r\n");
    a->part_end[0] = (size_t)(p - a->bytes);
    a->parts = 1;
}

static void leave_queue(struct connection *c) {
    if (!c->after) return;
    c->before->after = c->after;
    c->after->before = c->before;
    c->before = c->after = NULL;
}

/* Every stream has the same pace, so joining at the end keeps the queue ordered. */
static void join_queue(struct connection *c) {
    c->before = queue.before;
    c->after = &queue;
    queue.before->after = c;
    queue.before = c;
}

static void drop(struct connection *c) {
    leave_queue(c);
    close(c->fd);
    free(c->in);
    free(c);
}

static void watch_out(struct connection *c, int wanted) {
    if (c->waiting_out == wanted) return;
    c->waiting_out = wanted;
    struct epoll_event e = {.events = wanted ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.ptr = c};
    epoll_ctl(poll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

/* Sends what is due. 0: the peer is gone. */
static int send_due(struct connection *c) {
    size_t due = c->answer->part_end[c->part - 1];
    while (c->sent < due) {
        ssize_t n = send(c->fd, c->answer->bytes + c->sent, due - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            watch_out(c, 1);
            return 1;
        }
        if (n < 0) return 0;
        c->sent += (size_t)n;
    }
    watch_out(c, 0);
    if (c->part == c->answer->parts) c->answer = NULL;
    return 1;
}

static int wants_stream(const char *body, size_t n) {
    const char *p = memmem(body, n, "\"stream\"", 8), *end = body + n;
    if (!p) return 0;
    for (p += 8; p < end && (*p == ' ' || *p == ':'); p++) {}
    return end - p >= 4 && !memcmp(p, "true", 4);
}

static int start_answer(struct connection *c, const char *body, size_t n) {
    int stream = wants_stream(body, n);
    c->answer = stream ? &stream_answer : memmem(body, n, "bench-20k", 9) ? &large_answer : &small_answer;
    c->sent = 0;
    if (memmem(body, n, "bench-responses", 15)) c->answer = stream ? &response_stream : &response_answer;
    c->part = c->answer->parts;
    if (c->answer == &stream_answer && pace_ns && !memmem(body, n, "bench-burst", 11)) {
        c->part = 1;
        c->due = now_ns() + pace_ns;
        join_queue(c);
    }
    return send_due(c);
}

/* Answers whole requests that have arrived. 0: the connection has to go. */
static int serve_input(struct connection *c) {
    while (!c->answer && c->in_length) {
        struct head h;
        struct body b;
        if (!head_parse(c->in, c->in_length, &h)) return 1;
        body_start(&b, &h);
        const char *in = c->in + h.length, *end = c->in + c->in_length, *span;
        char *body = c->in + h.length, *to = body; /* chunks are joined in place */
        struct body probe = b;
        const char *at = in;
        while (body_next(&probe, &at, end, &span)) {}
        if (probe.state == BODY_BROKEN) return 0;
        if (probe.state != BODY_DONE) return 1;
        for (size_t n; (n = body_next(&b, &in, end, &span)); to += n) memmove(to, span, n);
        if (!start_answer(c, body, (size_t)(to - body))) return 0;
        c->in_length = (size_t)(end - in);
        memmove(c->in, in, c->in_length);
    }
    return 1;
}

static int receive(struct connection *c) {
    if (c->in_length + 4096 > c->in_room) {
        if (c->in_room > MAX_BODY) return 0;
        c->in_room = c->in_room ? c->in_room * 2 : 8192;
        c->in = realloc(c->in, c->in_room);
        if (!c->in) die("realloc");
    }
    ssize_t n = recv(c->fd, c->in + c->in_length, c->in_room - c->in_length, 0);
    if (n < 0 && errno == EAGAIN) return 1;
    if (n <= 0) return 0;
    c->in_length += (size_t)n;
    return serve_input(c);
}

static void accept_all(int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        struct connection *c = calloc(1, sizeof *c);
        if (!c) die("calloc");
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &e);
    }
}

static void run_due_streams(void) {
    uint64_t now = now_ns();
    while (queue.after != &queue && queue.after->due <= now) {
        struct connection *c = queue.after;
        leave_queue(c);
        c->part++;
        c->due += pace_ns;
        if (c->part < c->answer->parts) join_queue(c);
        if (!send_due(c) || (!c->answer && !serve_input(c))) drop(c);
    }
}

static int wait_events(struct epoll_event *events, int room) {
    if (queue.after == &queue) return epoll_wait(poll_fd, events, room, -1);
    uint64_t now = now_ns(), left = queue.after->due > now ? queue.after->due - now : 0;
    struct timespec t = {.tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u)};
    int n = (int)syscall(SYS_epoll_pwait2, poll_fd, events, room, &t, NULL, 0);
    return n < 0 && errno == ENOSYS ? epoll_wait(poll_fd, events, room, (int)(left / 1000000u)) : n;
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    if (bind(fd, (struct sockaddr *)&a, size) || listen(fd, 4096) || getsockname(fd, (struct sockaddr *)&a, &size)) die("listen");
    printf("%d\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv) {
    if (argc < 2) return fprintf(stderr, "usage: upstream PORT [PACE_MS]\n"), 2;
    if (argc > 2) pace_ns = (uint64_t)atoll(argv[2]) * 1000000u;
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){8192, 8192});
    render_completion(&small_answer, SMALL);
    render_completion(&large_answer, LARGE);
    render_stream(&stream_answer);
    render_response(&response_answer, SMALL);
    render_response_stream(&response_stream);
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    int listener = listen_on(atoi(argv[1]));
    struct epoll_event events[512] = {{.events = EPOLLIN, .data.ptr = NULL}};
    epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, events);
    for (;;) {
        int n = wait_events(events, 512);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) {
                accept_all(listener);
                continue;
            }
            int alive = 1;
            if (events[i].events & EPOLLOUT) alive = send_due(c) && serve_input(c);
            if (alive && events[i].events & ~(uint32_t)EPOLLOUT) alive = receive(c);
            if (!alive) drop(c);
        }
        run_due_streams();
    }
}
