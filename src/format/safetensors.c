/* safetensors.c -- a strict reader and a plain writer.
 *
 *     8 bytes: length n of the header | n bytes: JSON {"name": {"dtype", "shape", "data_offsets": [begin, end]}, ...} | data
 *
 * The ranges must cover the data exactly, without overlap or hole. Files are mapped, so a lying header costs no memory. */
#include "retort/format.h"

#include "base/files.h"
#include "base/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEADER_LIMIT = 100000000, FORMAT_RANK = 64, SHARD_LIMIT = 4096 };

typedef struct mapped {
    char *path;
    const unsigned char *data;
    size_t size;
} mapped;

typedef struct entry {
    rt_tensor_info info;
    const unsigned char *data;
    size_t begin, bytes; /* within its file's data */
    int shard;
} entry;

struct rt_tensors {
    mapped *shards;
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
        if (t->shards[i].data) munmap((void *)(uintptr_t)t->shards[i].data, t->shards[i].size);
        free(t->shards[i].path);
    }
    free(t->shards);
    free(t->entries);
    json_decref(t->metadata);
    rt__arena_free(&t->names);
    free(t);
}

/* ---- the header */

static rt_status read_shape(const char *path, const char *name, const json_t *shape, entry *e, rt_error *err)
{
    if (!json_is_array(shape) || json_array_size(shape) > FORMAT_RANK)
        RT_RAISE(RT_E_INVALID, "%s: tensor '%s': field 'shape' must be a list of at most %d whole numbers; write the file anew", path, name,
                 FORMAT_RANK);
    int rank = (int)json_array_size(shape);
    int64_t count = 1;
    if (rank > RT_MAX_RANK)
        RT_RAISE(RT_E_INVALID, "%s: tensor '%s': field 'shape' has %d dimensions; at most %d are supported", path, name, rank, RT_MAX_RANK);
    for (int i = 0; i < rank; i++) {
        const json_t *d = json_array_get(shape, (size_t)i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            RT_RAISE(RT_E_INVALID, "%s: tensor '%s': field 'shape[%d]' must be a whole number of 0 or more; write the file anew", path,
                     name, i);
        e->info.shape[i] = json_integer_value(d);
        if (__builtin_mul_overflow(count, e->info.shape[i], &count))
            RT_RAISE(RT_E_INVALID, "%s: tensor '%s': field 'shape' describes more elements than can exist; write the file anew", path,
                     name);
    }
    e->info.rank = rank;
    e->info.count = count;
    return RT_OK;
}

static rt_status read_entry(const mapped *m, const char *name, const json_t *v, size_t data_bytes, entry *e, rt_error *err)
{
    const char *path = m->path;
    if (!json_is_object(v))
        RT_RAISE(RT_E_INVALID, "%s: tensor '%s': its description must be an object with dtype, shape and data_offsets; write the file anew",
                 path, name);
    const char *key;
    json_t *unused;
    json_object_foreach((json_t *)(uintptr_t)v, key,
                        unused) if (strcmp(key, "dtype") && strcmp(key, "shape") && strcmp(key, "data_offsets"))
        RT_RAISE(RT_E_INVALID, "%s: tensor '%s': unknown field '%s'; only dtype, shape and data_offsets are defined", path, name, key);
    const char *dtype = json_string_value(json_object_get(v, "dtype"));
    int type = 0;
    while (dtype && type < RT_DTYPES && strcmp(dtype, rt_dtype_name((rt_dtype)type))) type++;
    if (!dtype || type == RT_DTYPES)
        RT_RAISE(RT_E_INVALID, "%s: tensor '%s': field 'dtype' is '%.20s'; must be one of F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL", path,
                 name, dtype ? dtype : "missing");
    e->info.dtype = (rt_dtype)type;
    RT_TRY(read_shape(path, name, json_object_get(v, "shape"), e, err));
    const json_t *offsets = json_object_get(v, "data_offsets"), *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to) || json_integer_value(from) < 0 ||
        json_integer_value(to) < json_integer_value(from))
        RT_RAISE(RT_E_INVALID, "%s: tensor '%s': field 'data_offsets' must be two whole numbers, begin and end; write the file anew", path,
                 name);
    if ((uint64_t)json_integer_value(to) > data_bytes)
        RT_RAISE(RT_E_INVALID,
                 "%s: tensor '%s': field 'data_offsets' ends at byte %lld, the file has %zu bytes of data; it was cut off, fetch it again",
                 path, name, (long long)json_integer_value(to), data_bytes);
    e->begin = (size_t)json_integer_value(from);
    e->bytes = (size_t)(json_integer_value(to) - json_integer_value(from));
    size_t need;
    if (!rt__mul_size((size_t)e->info.count, rt_dtype_size(e->info.dtype), &need) || need != e->bytes)
        RT_RAISE(
            RT_E_INVALID,
            "%s: tensor '%s': dtype and shape need %lld elements of %zu bytes, field 'data_offsets' spans %zu bytes; write the file anew",
            path, name, (long long)e->info.count, rt_dtype_size(e->info.dtype), e->bytes);
    return RT_OK;
}

static int by_begin(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static int by_name(const void *a, const void *b) { return strcmp(((const entry *)a)->info.name, ((const entry *)b)->info.name); }

static rt_status check_cover(const mapped *m, entry *e, int n, size_t data_bytes, rt_error *err)
{
    if (n) qsort(e, (size_t)n, sizeof *e, by_begin);
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        if (e[i].begin != at)
            RT_RAISE(RT_E_INVALID, "%s: tensor '%s': field 'data_offsets' begins at byte %zu, %s byte %zu; write the file anew", m->path,
                     e[i].info.name, e[i].begin, e[i].begin < at ? "overlapping the tensor that ends at" : "leaving a hole after", at);
        at += e[i].bytes;
    }
    if (at != data_bytes)
        RT_RAISE(RT_E_INVALID,
                 "%s: %zu bytes follow the last tensor, which ends at %zu; field 'data_offsets' must cover the file: write it anew",
                 m->path, data_bytes - at, at);
    return RT_OK;
}

static rt_status read_metadata(rt_tensors *t, const mapped *m, json_t *v, rt_error *err)
{
    const char *key;
    json_t *value;
    if (!json_is_object(v)) RT_RAISE(RT_E_INVALID, "%s: field '__metadata__' must be an object of strings; write the file anew", m->path);
    json_object_foreach(v, key, value) if (!json_is_string(value))
        RT_RAISE(RT_E_INVALID, "%s: field '__metadata__.%s' must be a string; write the file anew", m->path, key);
    if (!t->metadata) t->metadata = json_incref(v);
    return RT_OK;
}

static rt_status parse(rt_tensors *t, int shard, json_t *header, size_t data_bytes, const unsigned char *data, rt_error *err)
{
    const mapped *m = &t->shards[shard];
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
        *e = (entry){.shard = shard};
        RT_TRY(read_entry(m, name, v, data_bytes, e, err));
        e->info.name = rt__arena_strdup(&t->names, name);
        if (!e->info.name) RT_RAISE(RT_E_MEMORY, "%s: out of memory for a name", m->path);
        e->data = data + e->begin;
        t->n++;
    }
    return check_cover(m, t->n > first ? t->entries + first : NULL, t->n - first, data_bytes, err);
}

static rt_status open_shard(rt_tensors *t, int shard, rt_error *err)
{
    mapped *m = &t->shards[shard];
    int fd = open(m->path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0) RT_RAISE(RT_E_IO, "%s: cannot be opened: %s", m->path, strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        RT_RAISE(RT_E_IO, "%s: is not a file", m->path);
    }
    m->size = (size_t)st.st_size;
    void *map = m->size >= 8 ? mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    int why = errno;
    close(fd);
    if (m->size < 8)
        RT_RAISE(RT_E_INVALID,
                 "%s: %zu bytes, but a safetensors file begins with 8 bytes of field 'header length'; it was cut off, fetch it again",
                 m->path, m->size);
    if (map == MAP_FAILED) RT_RAISE(RT_E_IO, "%s: cannot be mapped: %s", m->path, strerror(why));
    m->data = map;
    uint64_t length = 0;
    for (int i = 0; i < 8; i++) length |= (uint64_t)m->data[i] << 8 * i;
    if (length > HEADER_LIMIT || length > m->size - 8)
        RT_RAISE(RT_E_INVALID,
                 "%s: field 'header length' is %llu, but %zu bytes follow (limit %d); not a safetensors file, or cut off: fetch it again",
                 m->path, (unsigned long long)length, m->size - 8, HEADER_LIMIT);
    json_error_t why_json;
    json_t *header =
        length && m->data[8] == '{' ? json_loadb((const char *)m->data + 8, (size_t)length, JSON_REJECT_DUPLICATES, &why_json) : NULL;
    if (!header) {
        bool parsed = length && m->data[8] == '{';
        RT_RAISE(RT_E_INVALID, "%s: field 'header' is not a JSON object%s%.120s; not a safetensors file, or damaged: fetch it again",
                 m->path, parsed ? ": " : "", parsed ? why_json.text : "");
    }
    rt_status s = parse(t, shard, header, m->size - 8 - (size_t)length, m->data + 8 + length, err);
    json_decref(header);
    return s;
}

/* ---- shards */

static rt_status add_shard(rt_tensors *t, const char *path, size_t folder, const char *name, rt_error *err)
{
    size_t size = folder + strlen(name) + 1;
    mapped *more = realloc(t->shards, (size_t)(t->n_shards + 1) * sizeof *more);
    char *full = malloc(size);
    if (more) t->shards = more;
    if (!more || !full) {
        free(full);
        RT_RAISE(RT_E_MEMORY, "%s: out of memory", path);
    }
    snprintf(full, size, "%.*s%s", (int)folder, path, name);
    t->shards[t->n_shards++] = (mapped){.path = full};
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
    qsort(t->entries, (size_t)t->n, sizeof *t->entries, by_name);
    json_object_foreach(map, name, v) if (rt_tensors_find(t, name) < 0)
        RT_RAISE(RT_E_INVALID, "%s: field 'weight_map.%.80s' names a tensor that %.80s does not hold; fetch the files again", path, name,
                 json_string_value(v));
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
        s = rt__file_read(path, HEADER_LIMIT, &text, &size, err);
        if (s == RT_OK) {
            json_error_t why;
            json_t *index = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
            s = index ? read_index(t, path, index, err)
                      : rt_error_set(err, RT_E_INVALID, "%s: not JSON: %.120s (line %d)", path, why.text, why.line);
            json_decref(index);
        }
        free(text);
    } else {
        s = add_shard(t, path, 0, path, err);
        if (s == RT_OK) s = open_shard(t, 0, err);
        if (t->n) qsort(t->entries, (size_t)t->n, sizeof *t->entries, by_name);
    }
    for (int i = 1; i < t->n && s == RT_OK; i++)
        if (!strcmp(t->entries[i].info.name, t->entries[i - 1].info.name))
            s = rt_error_set(err, RT_E_INVALID, "%s: tensor '%s' stands in two files", path, t->entries[i].info.name);
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

rt_status rt_tensors_read(const rt_tensors *t, int index, rt_tensor *out, rt_error *err)
{
    const entry *e = &t->entries[index];
    RT_TRY(rt_tensor_init(out, e->info.dtype, e->info.rank, e->info.shape, err));
    if (e->bytes) memcpy(out->data, e->data, e->bytes);
    return RT_OK;
}

rt_status rt_tensors_read_real(const rt_tensors *t, int index, rt_dtype dtype, void *out, rt_error *err)
{
    const entry *e = &t->entries[index];
    rt_dtype from = e->info.dtype;
    if (from != RT_F32 && from != RT_F64 && from != RT_F16 && from != RT_BF16)
        RT_RAISE(RT_E_INVALID, "%s: tensor '%s' holds %s; real numbers are needed", t->shards[e->shard].path, e->info.name,
                 rt_dtype_name(from));
    if (from == dtype) {
        if (e->bytes) memcpy(out, e->data, e->bytes);
        return RT_OK;
    }
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

static json_t *header_of(const rt_named_tensor *tensors, int n, const char *const *metadata)
{
    json_t *header = json_object();
    if (metadata && metadata[0]) {
        json_t *m = json_object();
        for (int i = 0; metadata[i]; i += 2) json_object_set_new(m, metadata[i], json_string(metadata[i + 1]));
        json_object_set_new(header, "__metadata__", m);
    }
    size_t at = 0;
    for (int i = 0; i < n; i++) {
        json_t *shape = json_array();
        for (int j = 0; j < tensors[i].rank; j++) json_array_append_new(shape, json_integer(tensors[i].shape[j]));
        size_t end = at + bytes_of(&tensors[i]);
        json_object_set_new(header, tensors[i].name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", rt_dtype_name(tensors[i].dtype), "shape", shape, "data_offsets",
                                      (json_int_t)at, (json_int_t)end));
        at = end;
    }
    return header;
}

rt_status rt_tensors_write(const char *path, const rt_named_tensor *tensors, int n, const char *const *metadata, rt_error *err)
{
    json_t *header = header_of(tensors, n, metadata);
    bool complete = header && json_object_size(header) == (size_t)n + (metadata && metadata[0]);
    char *text = complete ? json_dumps(header, JSON_COMPACT) : NULL;
    json_decref(header);
    if (!text)
        RT_RAISE(complete ? RT_E_MEMORY : RT_E_INVALID, "%s: the header cannot be made: %s", path,
                 complete ? "out of memory" : "two tensors share a name, or a name is not UTF-8");
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
