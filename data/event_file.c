#include "data/event_file.h"

#include <string.h>

enum { HEAD = 12, TAIL = 4 }; // bytes of a record before and behind its payload

// ---- checksums ----

uint32_t crc32c(const void *bytes, size_t size) {
    static uint32_t table[256]; // of the bits of a byte, the lowest first
    for (uint32_t i = 1; table[255] == 0 && i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
        table[i] = crc;
    }
    uint32_t crc = ~0u;
    for (size_t i = 0; i < size; i++) crc = crc >> 8 ^ table[(crc ^ ((const uint8_t *)bytes)[i]) & 255];
    return ~crc;
}

// Where a checksum stands beside what it is of, that would be a bad checksum of both.
static uint32_t masked(const void *bytes, size_t size) {
    uint32_t crc = crc32c(bytes, size);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

// ---- writing ----

// Field numbers and wire types of protocol buffers, as one byte.
enum {
    EVENT_TIME = 1 << 3 | 1, EVENT_STEP = 2 << 3, EVENT_VERSION = 3 << 3 | 2, EVENT_SUMMARY = 5 << 3 | 2,
    EVENT_SESSION = 7 << 3 | 2, SUMMARY_VALUE = 1 << 3 | 2, VALUE_TAG = 1 << 3 | 2, VALUE_NUMBER = 2 << 3 | 5,
    SESSION_STATUS = 1 << 3, SESSION_START = 1,
};

static void add_varint(Text *out, uint64_t value) {
    uint8_t bytes[10];
    size_t size = 0;
    for (; value > 127; value >>= 7) bytes[size++] = (uint8_t)(value | 128);
    bytes[size++] = (uint8_t)value;
    text_append(out, bytes, size);
}

static void add_field(Text *out, uint8_t field, const void *bytes, size_t size) {
    text_append(out, &field, 1);
    add_varint(out, size);
    text_append(out, bytes, size);
}

static void begin_event(Text *event, double time, int64_t step) {
    text_append(event, &(uint8_t){EVENT_TIME}, 1);
    text_append(event, &time, sizeof time);
    if (step == 0) return; // the default
    text_append(event, &(uint8_t){EVENT_STEP}, 1);
    add_varint(event, (uint64_t)step);
}

// The event is closed.
static void add_record(Text *out, Text *event) {
    uint64_t size = event->size;
    uint32_t of_size = masked(&size, sizeof size), of_event = masked(event->data, event->size);
    text_append(out, &size, sizeof size);
    text_append(out, &of_size, sizeof of_size);
    text_append(out, event->data, event->size);
    text_append(out, &of_event, sizeof of_event);
    text_close(event);
}

void events_add_version(Text *out, double time) {
    static const char version[] = "brain.Event:2";
    Text event = {0};
    begin_event(&event, time, 0);
    add_field(&event, EVENT_VERSION, version, sizeof version - 1);
    add_record(out, &event);
}

void events_add_scalars(Text *out, double time, int64_t step, const EventScalar *scalars, int count) {
    Text event = {0}, summary = {0}, value = {0};
    for (int i = 0; i < count; i++) {
        text_clear(&value);
        add_field(&value, VALUE_TAG, scalars[i].tag, strlen(scalars[i].tag));
        text_append(&value, &(uint8_t){VALUE_NUMBER}, 1);
        text_append(&value, &scalars[i].value, sizeof scalars[i].value);
        add_field(&summary, SUMMARY_VALUE, value.data, value.size);
    }
    begin_event(&event, time, step);
    add_field(&event, EVENT_SUMMARY, text_string(&summary), summary.size);
    add_record(out, &event);
    text_close(&summary);
    text_close(&value);
}

void events_add_restart(Text *out, double time, int64_t step) {
    static const uint8_t start[] = {SESSION_STATUS, SESSION_START};
    Text event = {0};
    begin_event(&event, time, step);
    add_field(&event, EVENT_SESSION, start, sizeof start);
    add_record(out, &event);
}

// ---- reading ----

static void read_event(EventRecord *record, const uint8_t *event, size_t size) {
    size_t i = 1 + sizeof(double);
    uint64_t step = 0;
    record->time = 0;
    record->step = 0;
    if (size < i || event[0] != EVENT_TIME) return;
    memcpy(&record->time, event + 1, sizeof record->time);
    if (size == i || event[i++] != EVENT_STEP) return;
    for (int shift = 0; i < size && shift < 63; shift += 7, i++) {
        step |= (uint64_t)(event[i] & 127) << shift;
        if (event[i] < 128) {
            record->step = (int64_t)step;
            return;
        }
    }
}

bool events_next(const void *bytes, size_t size, EventRecord *record) {
    const uint8_t *at = record->bytes ? (const uint8_t *)record->bytes + record->size : bytes;
    size_t left = size - (size_t)(at - (const uint8_t *)bytes);
    uint64_t length;
    uint32_t of_length, of_event;
    if (left < HEAD + TAIL) return false;
    memcpy(&length, at, sizeof length);
    memcpy(&of_length, at + sizeof length, sizeof of_length);
    if (of_length != masked(at, sizeof length) || length > left - HEAD - TAIL) return false;
    memcpy(&of_event, at + HEAD + length, sizeof of_event);
    if (of_event != masked(at + HEAD, length)) return false;
    record->bytes = at;
    record->size = HEAD + length + TAIL;
    read_event(record, at + HEAD, length);
    return true;
}
