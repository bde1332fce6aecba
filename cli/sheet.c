/* sheet.c -- rows of pictures from files of samples, as one PNG: `retort generate sheet`. */
#include "cli.h"

#include "retort/format.h"

#include <stdlib.h>
#include <string.h>

/* The first `columns` pictures of a file's tensor x, in -1..1, to `to`; all files of a sheet have pictures of one size, `shape`, which the first one says.
 * `room`: how many pictures the sheet holds; the first file makes it. */
static rt_status read_pictures(const char *path, int64_t columns, float **x, int64_t shape[3], int64_t at, int64_t room, rt_error *err)
{
    rt_tensors *t;
    rt_tensor v = {0};
    TRY(rt_tensors_open(&t, path, err));
    int i = rt_tensors_find(t, "x");
    const rt_tensor_info *info = rt_tensors_info(t, i);
    bool fits = info && info->dtype == RT_F32 && info->rank == 4 && info->shape[0] >= columns &&
                (info->shape[1] == 1 || info->shape[1] == 3 || info->shape[1] == 4) &&
                (!*x || memcmp(shape, info->shape + 1, 3 * sizeof *shape) == 0);
    rt_status s = fits ? rt_tensors_read(t, i, &v, err)
                       : rt_error_set(err, RT_E_INVALID, "%s: tensor 'x' must hold %lld pictures or more, of one size in all files", path,
                                      (long long)columns);
    if (s == RT_OK) {
        memcpy(shape, info->shape + 1, 3 * sizeof *shape);
        int64_t picture = shape[0] * shape[1] * shape[2];
        if (!*x) *x = malloc((size_t)(room * picture) * sizeof **x);
        if (*x)
            memcpy(*x + at * picture, v.data, (size_t)(columns * picture) * sizeof **x);
        else
            s = rt_error_set(err, RT_E_MEMORY, "out of memory for a sheet of %lld pictures", (long long)room);
    }
    rt_tensor_free(&v);
    rt_tensors_close(t);
    return s;
}

/* A row: FILE, or FILE,FILE,...: equal parts of the row's columns from each. */
static rt_status read_row(const char *list, int64_t columns, float **x, int64_t shape[3], int64_t row, int64_t rows, rt_error *err)
{
    int64_t parts = 1, at = row * columns;
    for (const char *p = list; *p; p++) parts += *p == ',';
    if (columns % parts != 0)
        return rt_error_set(err, RT_E_USAGE, "generate sheet: %lld columns cannot be %lld equal parts (%s)", (long long)columns,
                            (long long)parts, list);
    char *names = strdup(list), *rest = names, *name;
    rt_status s = names ? RT_OK : rt_error_set(err, RT_E_MEMORY, "out of memory for the names of a row");
    while (s == RT_OK && (name = strsep(&rest, ",")) != NULL) {
        s = read_pictures(name, columns / parts, x, shape, at, rows * columns, err);
        at += columns / parts;
    }
    free(names);
    return s;
}

/* The arguments behind COLUMNS: files, each a row, and "-", which leaves more room above the row that follows. */
static int list_rows(cli_call *c, const char **files, bool *apart)
{
    int n = 0;
    for (int i = 3; i < c->n_arguments; i++) {
        if (strcmp(c->arguments[i], "-") == 0)
            apart[n] = true;
        else
            files[n++] = c->arguments[i];
    }
    return n;
}

static rt_status write_sheet(cli_call *c, rt_sheet *s, const char **files, bool *apart, rt_error *err)
{
    int64_t rows = list_rows(c, files, apart), shape[3] = {0};
    int n_labels = cli_texts(c, "label", (const char ***)&s->labels);
    s->n_titles = cli_texts(c, "title", (const char ***)&s->titles);
    s->scale = (int)cli_int(c, "scale", 1, 32);
    TRY(cli_ok(c, err));
    if (rows < 1) return rt_error_set(err, RT_E_USAGE, "generate sheet: no FILE; each file of samples, or FILE,FILE, is a row");
    if (n_labels && n_labels != rows)
        return rt_error_set(err, RT_E_USAGE, "--label: %d labels for %lld rows; give one per FILE, '' for a row without", n_labels,
                            (long long)rows);
    if (!n_labels) s->labels = NULL;
    float *x = NULL;
    rt_status status = RT_OK;
    for (int64_t i = 0; i < rows && status == RT_OK; i++) status = read_row(files[i], s->columns, &x, shape, i, rows, err);
    s->n = rows * s->columns, s->x = x, s->apart = apart;
    s->channels = (int)shape[0], s->height = (int)shape[1], s->width = (int)shape[2];
    if (status == RT_OK) status = rt_png_sheet(c->arguments[1], s, err);
    free(x);
    return status;
}

rt_status cli_write_sheet(cli_call *c, rt_error *err)
{
    int64_t columns = atoll(c->arguments[2]);
    if (columns < 1 || columns > 1000)
        return rt_error_set(err, RT_E_USAGE, "generate sheet: %s columns; must be 1 to 1000", c->arguments[2]);
    rt_sheet s = {.low = -1, .high = 1, .columns = (int)columns, .gap = 2};
    const char **files = calloc((size_t)c->n_arguments, sizeof *files);
    bool *apart = calloc((size_t)c->n_arguments, sizeof *apart);
    rt_status status = files && apart ? write_sheet(c, &s, files, apart, err) : rt_error_set(err, RT_E_MEMORY, "out of memory for a sheet");
    free(files);
    free(apart);
    return status;
}
