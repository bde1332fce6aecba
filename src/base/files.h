/* files.h -- files that appear complete or not at all. Errors name the path and what the system said. */
#ifndef RT_BASE_FILES_H
#define RT_BASE_FILES_H

#include "base/internal.h"

#include <stdio.h>

bool rt__file_exists(const char *path);
bool rt__is_folder(const char *path);

/* The whole file, NUL behind its end; at most `limit` bytes. The caller frees *data. */
rt_status rt__file_read(const char *path, size_t limit, char **data, size_t *size, rt_error *err);

/* Writing: a temporary file beside `path`, then sync and rename. rt__file_commit closes in any case and removes the temporary on failure. */
typedef struct rt__file {
    FILE *stream;
    char path[1024], temporary[1056];
} rt__file;
rt_status rt__file_begin(rt__file *f, const char *path, rt_error *err);
rt_status rt__file_commit(rt__file *f, rt_error *err);
void rt__file_abort(rt__file *f);
rt_status rt__file_write(const char *path, const void *data, size_t size, rt_error *err);

rt_status rt__make_folders(const char *path, rt_error *err); /* mkdir -p */
rt_status rt__sync_folder(const char *path, rt_error *err);
/* Makes `temporary`, whose files are synced, appear as `path`. A folder that is there is exchanged for it at once and then removed. */
rt_status rt__folder_commit(const char *temporary, const char *path, rt_error *err);
/* Removes a folder and what is in it; absent is no error. Follows no links. */
rt_status rt__remove_tree(const char *path, rt_error *err);

/* Takes `path` for this process until *lock is released; RT_E_BUSY if another holds it. */
rt_status rt__lock(const char *path, int *lock, rt_error *err);
void rt__unlock(int *lock);

/* SHA-256 as 64 hex digits. */
void rt__sha256(const void *data, size_t size, char hex[65]);
rt_status rt__sha256_file(const char *path, char hex[65], rt_error *err);

#endif
