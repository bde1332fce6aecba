/* safetensors.c -- a strict reader and a plain writer.
 *
 *     8 bytes: length n of the header | n bytes: JSON {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...} | data
 *
 * The ranges must cover the data exactly, without overlap or hole. A header is read when its length has been checked against the file's, and
 * parsed when it has been seen to be small enough; tensors are read when they are asked for, so that a file that shrinks or a disk that fails is an
 * error and not a signal, as it would be if the file were mapped. */
#include "retort/format.h"

#include "base/files.h"
#include "base/internal.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_LIMIT = 100000000, VALUES_LIMIT = 1 << 20, FORMAT_RANK = 64, SHARD_LIMIT = 512 };

typedef struct shard {
    char *path;
    int fd;     /* -1: not open */
    off_t data; /* where the data begin */
    size_t bytes;
} shard;

typedef struct entry {
    rt_tensor_info info;
    size_t begin, bytes; /* within its file's data */
    int shard;
} entry;

struct rt_tensors {
    shard *shards;
    int n_shards;
    entry *entries; /* by name */
    int n, room;
    json_t *metadata;
    rt__arena names;
};

void rt_tensors_close(rt_tensors *t)
{
    if (!t) return;
    for (int i = 0; i < t->n_shards; i++) {
        if (t->shards[i].fd >= 0) close(t->shards[i].fd);
        free(t->shards[i].path);
    }
    free(t->shards);
    free(t->entries);
    json_decref(t->metadata);
    rt__arena_free(&t->names);
    free(t);
}

/* ---- the header */

static rt_status wrong(const shard *m, const char *name, const char *field, const json_t *value, const char *must, rt_error *err)
{
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    rt_status s = rt_error_set(err, RT_E_INVALID, "%s: tensor '%.80s': field '%s' is %.60s; must be %s; write the file anew", m->path, name,
                               field, text ? text : "missing", must);
    free(text);
    return s;
}

static rt_status read_shape(const shard *m, const char *name, const json_t *shape, entry *e, rt_error *err)
{
    size_t rank = json_array_size(shape);
    int64_t count = 1;
    if (!json_is_array(shape) || rank > FORMAT_RANK) return wrong(m, name, "shape", shape, "a list of at most 64 whole numbers", err);
    if (rank > RT_MAX_RANK)
        RT_RAISE(RT_E_INVALID, "%s: tensor '%.80s': field 'shape' has %zu dimensions; must have at most %d: reshape the tensor", m->path,
                 name, rank, RT_MAX_RANK);
    for (size_t i = 0; i < rank; i++) {
        const json_t *d = json_array_get(shape, i);
        if (!json_is_integer(d) || json_integer_value(d) < 0) return wrong(m, name, "shape", shape, "whole numbers of 0 or more", err);
        e->info.shape[i] = json_integer_value(d);
        if (__builtin_mul_overflow(count, e->info.shape[i], &count)) return wrong(m, name, "shape", shape, "fewer than 2^63 elements", err);
    }
    e->info.rank = (int)rank;
    e->info.count = count;
    return RT_OK;
}

static rt_status read_entry(const shard *m, const char *name, const json_t *v, entry *e, rt_error *err)
{
    const char *key;
    json_t *unused;
    if (!json_is_object(v))
        RT_RAISE(RT_E_INVALID, "%s: tensor '%.80s': its value must be an object with dtype, shape and data_offsets; write the file anew",
                 m->path, name);
    json_object_foreach((json_t *)(uintptr_t)v, key, unused)
    {
        if (strcmp(key, "dtype") && strcmp(key, "shape") && strcmp(key, "data_offsets"))
            RT_RAISE(RT_E_INVALID, "%s: tensor '%.80s': unknown field '%.80s'; only dtype, shape and data_offsets are defined", m->path,
                     name, key);
    }
    const char *dtype = json_string_value(json_object_get(v, "dtype"));
    int type = 0;
    while (dtype && type < RT_DTYPES && strcmp(dtype, rt_dtype_name((rt_dtype)type))) type++;
    if (!dtype || type == RT_DTYPES)
        return wrong(m, name, "dtype", json_object_get(v, "dtype"), "one of F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL", err);
    e->info.dtype = (rt_dtype)type;
    RT_TRY(read_shape(m, name, json_object_get(v, "shape"), e, err));
    const json_t *offsets = json_object_get(v, "data_offsets"), *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to) || json_integer_value(from) < 0 ||
        json_integer_value(to) < json_integer_value(from))
        return wrong(m, name, "data_offsets", offsets, "two whole numbers, begin and end", err);
    if ((uint64_t)json_integer_value(to) > m->bytes)
        RT_RAISE(
            RT_E_INVALID,
            "%s: tensor '%.80s': field 'data_offsets' ends at byte %lld, the file has %zu bytes of data; it was cut off, fetch it again",
            m->path, name, (long long)json_integer_value(to), m->bytes);
    e->begin = (size_t)json_integer_value(from);
    e->bytes = (size_t)(json_integer_value(to) - json_integer_value(from));
    size_t need;
    if (!rt__mul_size((size_t)e->info.count, rt_dtype_size(e->info.dtype), &need) || need != e->bytes)
        RT_RAISE(RT_E_INVALID,
                 "%s: tensor '%.80s': dtype and shape need %lld elements of %zu bytes, field 'data_offsets' spans %zu bytes; write the "
                 "file anew",
                 m->path, name, (long long)e->info.count, rt_dtype_size(e->info.dtype), e->bytes);
    return RT_OK;
}

static int by_begin(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int by_name(const void *a, const void *b) { return strcmp(((const entry *)a)->info.name, ((const entry *)b)->info.name); }

static rt_status check_cover(const shard *m, entry *e, int n, rt_error *err)
{
    if (n) qsort(e, (size_t)n, sizeof *e, by_begin);
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        if (e[i].begin != at)
            RT_RAISE(RT_E_INVALID, "%s: tensor '%.80s': field 'data_offsets' begins at byte %zu, %s byte %zu; write the file anew", m->path,
                     e[i].info.name, e[i].begin, e[i].begin < at ? "overlapping the tensor that ends at" : "leaving a hole after", at);
        at += e[i].bytes;
    }
    if (at != m->bytes)
        RT_RAISE(RT_E_INVALID,
                 "%s: %zu bytes follow the last tensor, which ends at %zu; field 'data_offsets' must cover the file: write it anew",
                 m->path, m->bytes - at, at);
    return RT_OK;
}

static rt_status read_metadata(rt_tensors *t, const shard *m, json_t *v, rt_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(v)) RT_RAISE(RT_E_INVALID, "%s: field '__metadata__' must be an object of strings; write the file anew", m->path);
    json_object_foreach(v, key, value) if (!json_is_string(value))
        RT_RAISE(RT_E_INVALID, "%s: field '__metadata__.%.80s' must be a string; write the file anew", m->path, key);
    if (!t->metadata) t->metadata = json_incref(v);
    return RT_OK;
}

static rt_status parse(rt_tensors *t, int index, json_t *header, rt_error *err)
{
    const shard *m = &t->shards[index];
    int first = t->n;
    const char *name;
    json_t *v;
    json_object_foreach(header, name, v)
    {
        if (!strcmp(name, "__metadata__")) {
            RT_TRY(read_metadata(t, m, v, err));
            continue;
        }
        if (t->n == t->room) {
            int room = t->room ? 2 * t->room : 256;
            entry *more = realloc(t->entries, (size_t)room * sizeof *more);
            if (!more) RT_RAISE(RT_E_MEMORY, "%s: out of memory for %d tensors", m->path, room);
            t->entries = more;
            t->room = room;
        }
        entry *e = &t->entries[t->n];
        *e = (entry){.shard = index};
        RT_TRY(read_entry(m, name, v, e, err));
        e->info.name = rt__arena_strdup(&t->names, name);
        if (!e->info.name) RT_RAISE(RT_E_MEMORY, "%s: out of memory for a name", m->path);
        t->n++;
    }
    return check_cover(m, t->n > first ? t->entries + first : NULL, t->n - first, err);
}

/* `n` bytes from `at` in the file. */
static rt_status read_bytes(const shard *m, off_t at, void *to, size_t n, rt_error *err)
{
    for (char *p = to; n > 0;) {
        ssize_t got = pread(m->fd, p, n, at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) RT_RAISE(RT_E_IO, "%s: cannot be read at byte %lld: %s", m->path, (long long)at, strerror(errno));
        if (got == 0) RT_RAISE(RT_E_IO, "%s: ends at byte %lld; it was cut off while it was read", m->path, (long long)at);
        p += got;
        at += got;
        n -= (size_t)got;
    }
    return RT_OK;
}

static rt_status read_header(rt_tensors *t, int index, size_t length, rt_error *err)
{
    const shard *m = &t->shards[index];
    json_t *header = NULL;
    char *text = malloc(length + 1), name[1100];
    if (!text) RT_RAISE(RT_E_MEMORY, "%s: out of memory for a header of %zu bytes", m->path, length);
    snprintf(name, sizeof name, "%s: field 'header'", m->path);
    rt_status s = read_bytes(m, 8, text, length, err);
    if (s == RT_OK) s = rt__json_parse(&header, name, text, length, VALUES_LIMIT, err);
    free(text);
    if (s == RT_OK) s = parse(t, index, header, err);
    json_decref(header);
    return s;
}

static rt_status open_shard(rt_tensors *t, int index, rt_error *err)
{
    shard *m = &t->shards[index];
    unsigned char start[9];
    struct stat st;
    m->fd = open(m->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not keep us waiting */
    if (m->fd < 0) RT_RAISE(RT_E_IO, "%s: cannot be opened: %s", m->path, strerror(errno));
    if (fstat(m->fd, &st) != 0 || !S_ISREG(st.st_mode)) RT_RAISE(RT_E_IO, "%s: is not a file", m->path);
    size_t size = (size_t)st.st_size;
    if (size < 8)
        RT_RAISE(RT_E_INVALID,
                 "%s: %zu bytes, but a safetensors file begins with 8 bytes of field 'header length'; it was cut off, fetch it again",
                 m->path, size);
    RT_TRY(read_bytes(m, 0, start, size < sizeof start ? size : sizeof start, err));
    if (!memcmp(start, "version ", 8))
        RT_RAISE(RT_E_INVALID, "%s: a pointer of git-lfs in place of the file; run `git lfs pull` where the folder was cloned", m->path);
    uint64_t length = 0;
    for (int i = 0; i < 8; i++) length |= (uint64_t)start[i] << 8 * i;
    if (length > HEADER_LIMIT || length > size - 8)
        RT_RAISE(RT_E_INVALID,
                 "%s: field 'header length' is %llu, but %zu bytes follow (limit %d); not a safetensors file, or cut off: fetch it again",
                 m->path, (unsigned long long)length, size - 8, HEADER_LIMIT);
    if (length == 0) RT_RAISE(RT_E_INVALID, "%s: field 'header length' is 0; must be 2 or more; not a safetensors file", m->path);
    if (start[8] != '{')
        RT_RAISE(RT_E_INVALID,
                 "%s: field 'header' begins with byte 0x%02x; must be '{'; not a safetensors file, or damaged: fetch it again", m->path,
                 start[8]);
    m->data = (off_t)(8 + length);
    m->bytes = size - 8 - (size_t)length;
    return read_header(t, index, (size_t)length, err);
}

/* ---- shards */

static rt_status add_shard(rt_tensors *t, const char *path, size_t folder, const char *name, rt_error *err)
{
    size_t size = folder + strlen(name) + 1;
    shard *more = realloc(t->shards, (size_t)(t->n_shards + 1) * sizeof *more);
    char *full = malloc(size);
    if (more) t->shards = more;
    if (!more || !full) {
        free(full);
        RT_RAISE(RT_E_MEMORY, "%s: out of memory", path);
    }
    snprintf(full, size, "%.*s%s", (int)folder, path, name);
    t->shards[t->n_shards++] = (shard){.path = full, .fd = -1};
    return RT_OK;
}

static rt_status read_index(rt_tensors *t, const char *path, json_t *index, rt_error *err)
{
    const char *slash = strrchr(path, '/'), *name;
    size_t folder = slash ? (size_t)(slash - path) + 1 : 0;
    json_t *map = json_object_get(index, "weight_map"), *v;
    if (!json_is_object(map) || json_object_size(map) == 0)
        RT_RAISE(RT_E_INVALID, "%s: field 'weight_map' must be an object of tensor names and files", path);
    json_object_foreach(map, name, v)
    {
        const char *file = json_string_value(v);
        if (!file || !*file || strchr(file, '/') || !strcmp(file, "..") || strlen(file) > 255)
            RT_RAISE(RT_E_INVALID, "%s: field 'weight_map.%.80s' must be the name of a file in the same folder", path, name);
        bool known = false;
        for (int i = 0; i < t->n_shards; i++) known |= !strcmp(t->shards[i].path + folder, file);
        if (known) continue;
        if (t->n_shards == SHARD_LIMIT) RT_RAISE(RT_E_INVALID, "%s: field 'weight_map' names more than %d files", path, SHARD_LIMIT);
        RT_TRY(add_shard(t, path, folder, file, err));
    }
    for (int i = 0; i < t->n_shards; i++) RT_TRY(open_shard(t, i, err));
    if (t->n) qsort(t->entries, (size_t)t->n, sizeof *t->entries, by_name);
    for (int i = 1; i < t->n; i++)
        if (!strcmp(t->entries[i].info.name, t->entries[i - 1].info.name))
            RT_RAISE(RT_E_INVALID, "%s: tensor '%.80s' stands in two files", path, t->entries[i].info.name);
    json_object_foreach(map, name, v)
    {
        int i = rt_tensors_find(t, name);
        if (i < 0 || strcmp(t->shards[t->entries[i].shard].path + folder, json_string_value(v)) != 0)
            RT_RAISE(RT_E_INVALID, "%s: field 'weight_map.%.80s' names a tensor that %.80s does not hold; fetch the files again", path,
                     name, json_string_value(v));
    }
    return RT_OK;
}

rt_status rt_tensors_open(rt_tensors **out, const char *path, rt_error *err)
{
    *out = NULL;
    rt_tensors *t = calloc(1, sizeof *t);
    if (!t) RT_RAISE(RT_E_MEMORY, "%s: out of memory", path);
    size_t n = strlen(path);
    rt_status s;
    if (n > 5 && !strcmp(path + n - 5, ".json")) {
        char *text;
        size_t size;
        json_t *index = NULL;
        s = rt__file_read(path, HEADER_LIMIT, &text, &size, err);
        if (s == RT_OK) s = rt__json_parse(&index, path, text, size, VALUES_LIMIT, err);
        if (s == RT_OK) s = read_index(t, path, index, err);
        json_decref(index);
        free(text);
    } else {
        s = add_shard(t, path, 0, path, err);
        if (s == RT_OK) s = open_shard(t, 0, err);
        if (t->n) qsort(t->entries, (size_t)t->n, sizeof *t->entries, by_name);
    }
    if (s != RT_OK) {
        rt_tensors_close(t);
        return s;
    }
    *out = t;
    return RT_OK;
}

/* ---- reading */

int rt_tensors_count(const rt_tensors *t) { return t->n; }
const rt_tensor_info *rt_tensors_info(const rt_tensors *t, int index)
{
    return index >= 0 && index < t->n ? &t->entries[index].info : NULL;
}
const char *rt_tensors_metadata(const rt_tensors *t, const char *key) { return json_string_value(json_object_get(t->metadata, key)); }

int rt_tensors_find(const rt_tensors *t, const char *name)
{
    entry key = {.info.name = name};
    const entry *e = t->n ? bsearch(&key, t->entries, (size_t)t->n, sizeof key, by_name) : NULL;
    return e ? (int)(e - t->entries) : -1;
}

static rt_status read_entry_data(const rt_tensors *t, const entry *e, void *to, rt_error *err)
{
    const shard *m = &t->shards[e->shard];
    return read_bytes(m, m->data + (off_t)e->begin, to, e->bytes, err);
}

rt_status rt_tensors_read(const rt_tensors *t, int index, rt_tensor *out, rt_error *err)
{
    const entry *e = &t->entries[index];
    RT_TRY(rt_tensor_init(out, e->info.dtype, e->info.rank, e->info.shape, err));
    rt_status s = read_entry_data(t, e, out->data, err);
    if (s != RT_OK) rt_tensor_free(out);
    return s;
}

rt_status rt_tensors_read_real(const rt_tensors *t, int index, rt_dtype dtype, void *out, rt_error *err)
{
    const entry *e = &t->entries[index];
    rt_dtype from = e->info.dtype;
    if (from != RT_F32 && from != RT_F64 && from != RT_F16 && from != RT_BF16)
        RT_RAISE(RT_E_INVALID, "%s: tensor '%.80s' holds %s; real numbers are needed", t->shards[e->shard].path, e->info.name,
                 rt_dtype_name(from));
    if (from == dtype) return read_entry_data(t, e, out, err);
    rt_tensor raw, cast = {0};
    RT_TRY(rt_tensors_read(t, index, &raw, err));
    rt_status s = rt_tensor_cast(&cast, &raw, dtype, err);
    if (s == RT_OK) memcpy(out, cast.data, (size_t)e->info.count * rt_dtype_size(dtype));
    rt_tensor_free(&raw);
    rt_tensor_free(&cast);
    return s;
}

/* ---- writing */

static size_t bytes_of(const rt_named_tensor *t)
{
    size_t n = rt_dtype_size(t->dtype);
    for (int i = 0; i < t->rank; i++) n *= (size_t)t->shape[i];
    return n;
}

/* False if the key stands there already, a text is not UTF-8, or memory is out; the value is released in any case. */
static bool put(json_t *object, const char *key, json_t *value)
{
    if (!json_object_get(object, key)) return json_object_set_new(object, key, value) == 0;
    json_decref(value);
    return false;
}

static bool put_tensor(json_t *header, const rt_named_tensor *t, size_t at, size_t end)
{
    json_t *e = json_object(), *shape = json_array(), *offsets = json_pack("[I, I]", (json_int_t)at, (json_int_t)end);
    bool ok = strcmp(t->name, "__metadata__") != 0;
    for (int i = 0; i < t->rank; i++) ok &= json_array_append_new(shape, json_integer(t->shape[i])) == 0;
    ok &= put(e, "dtype", json_string(rt_dtype_name(t->dtype))); /* all three are put, so that all are released with e */
    ok &= put(e, "shape", shape);
    ok &= put(e, "data_offsets", offsets);
    return put(header, t->name, e) && ok;
}

/* The header as text; NULL when it cannot be made. */
static char *header_of(const rt_named_tensor *tensors, int n, const char *const *metadata)
{
    json_t *header = json_object(), *m = metadata && metadata[0] ? json_object() : NULL;
    bool ok = true;
    for (int i = 0; m && metadata[i]; i += 2) ok &= put(m, metadata[i], json_string(metadata[i + 1]));
    if (metadata && metadata[0]) ok &= put(header, "__metadata__", m);
    for (size_t i = 0, at = 0; i < (size_t)n && ok; i++) {
        size_t end = at + bytes_of(&tensors[i]);
        ok = put_tensor(header, &tensors[i], at, end);
        at = end;
    }
    char *text = ok ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    return text;
}

rt_status rt_tensors_write(const char *path, const rt_named_tensor *tensors, int n, const char *const *metadata, rt_error *err)
{
    errno = 0; /* the only way to learn why jansson failed */
    char *text = header_of(tensors, n, metadata);
    if (!text && errno == ENOMEM) RT_RAISE(RT_E_MEMORY, "%s: out of memory for the header", path);
    if (!text) RT_RAISE(RT_E_INVALID, "%s: the header cannot be made: two tensors share a name, or a text is not UTF-8", path);
    if (strlen(text) > HEADER_LIMIT - 8) {
        free(text);
        RT_RAISE(RT_E_INVALID, "%s: the header would be longer than %d bytes; shorten names and metadata", path, HEADER_LIMIT);
    }
    rt__file f;
    rt_status s = rt__file_begin(&f, path, err);
    if (s == RT_OK) {
        size_t length = strlen(text), padded = (length + 7) / 8 * 8; /* so that data are aligned */
        unsigned char size[8];
        for (int i = 0; i < 8; i++) size[i] = (unsigned char)(padded >> 8 * i);
        fwrite(size, 1, sizeof size, f.stream);
        fprintf(f.stream, "%-*s", (int)padded, text);
        for (int i = 0; i < n; i++)
            if (bytes_of(&tensors[i])) fwrite(tensors[i].data, 1, bytes_of(&tensors[i]), f.stream);
        s = rt__file_commit(&f, err);
    }
    free(text);
    return s;
}
