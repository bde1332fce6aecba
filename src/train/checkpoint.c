/* checkpoint.c -- complete or absent: written under a temporary name, synced, its manifest with the SHA-256 last, then renamed. */
#include "train/run.h"

#include "base/files.h"
#include "base/internal.h"
#include "base/json.h"
#include "retort/format.h"

#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const role_names[RT_ROLES] = {"value", "gradient", "moment1", "moment2", "average"};
enum { PARTS = RT_NETWORKS * (RT_ROLES + 1) + 3, PATH = RT_CONFIG_TEXT + 96 };

/* What is frozen is not kept: it is as it started, which the digest makes sure of. */
static void digest_frozen(const rt_params *set, char hex[65])
{
    const float *v = rt_params_data((rt_params *)(uintptr_t)set, RT_VALUE);
    int64_t from = rt_params_trained(set), to = rt_params_extent(set, RT_VALUE);
    rt__sha256(v + from, (size_t)(to - from) * sizeof *v, hex);
}

static bool has_frozen(const rt_params *set) { return rt_params_trained(set) < rt_params_extent(set, RT_VALUE); }

static bool all_finite(const rt_params *set, const float *v)
{
    for (int64_t i = 0; i < rt_params_trained(set); i++)
        if (!isfinite(v[i])) return false;
    return true;
}

static rt_status write_checkpoint(rt__run *run, rt_error *err)
{
    char temporary[PATH], folder[PATH], file[PATH + 32], hex[65], names[PARTS][96], digests[RT_NETWORKS][65];
    const int64_t digest = 64, one = 1;
    const rt_task *t = &run->task;
    int64_t extents[RT_NETWORKS], bytes = (int64_t)sizeof run->at;
    rt_named_tensor parts[PARTS];
    int n = 0;
    for (int s = 0; s < t->plan.n_networks; s++) {
        rt_params *set = t->networks[s].set;
        if (!set) continue;
        extents[s] = rt_params_trained(set);
        for (int role = 0; role < RT_ROLES; role++) {
            if (!rt_params_has(set, (rt_role)role)) continue;
            snprintf(names[n], sizeof names[n], "%s.%s", rt_params_name(set), role_names[role]);
            RT_TRY(rt_params_fetch(set, (rt_role)role, err));
            const float *v = rt_params_data(set, (rt_role)role);
            if (!all_finite(set, v))
                RT_RAISE(RT_E_DIVERGED, "%s: %s holds NaN or Inf after update %lld and is not saved", run->config->out, names[n],
                         (long long)run->at.updates);
            parts[n] = (rt_named_tensor){names[n], RT_F32, 1, &extents[s], v};
            n++;
        }
        if (!has_frozen(set)) continue;
        digest_frozen(set, digests[s]);
        snprintf(names[n], sizeof names[n], "%s.frozen", rt_params_name(set));
        parts[n] = (rt_named_tensor){names[n], RT_U8, 1, &digest, digests[s]};
        n++;
    }
    int64_t extent = run->selected ? rt_params_extent(run->selected, RT_VALUE) : 0;
    if (run->at.watch.best_update > 0) RT_TRY(rt_params_fetch(run->selected, RT_VALUE, err));
    if (run->at.watch.best_update > 0)
        parts[n++] = (rt_named_tensor){"selected", RT_F32, 1, &extent, rt_params_data(run->selected, RT_VALUE)};
    if (!isnan(run->headline)) parts[n++] = (rt_named_tensor){"headline", RT_F64, 1, &one, &run->headline};
    parts[n++] = (rt_named_tensor){"position", RT_U8, 1, &bytes, &run->at};
    snprintf(folder, sizeof folder, "%s/checkpoints/update-%lld", run->config->out, (long long)run->at.updates);
    snprintf(temporary, sizeof temporary, "%s/checkpoints/.writing", run->config->out);
    RT_TRY(rt__remove_tree(temporary, err));
    RT_TRY(rt__make_folders(temporary, err));
    snprintf(file, sizeof file, "%s/state.safetensors", temporary);
    RT_TRY(rt_tensors_write(file, parts, n, NULL, err));
    RT_TRY(rt__sha256_file(file, hex, err));
    json_t *o = json_pack("{s:i, s:s, s:I, s:I, s:{s:s}}", "version", 1, "method", run->config->method, "update",
                          (json_int_t)run->at.updates, "round", (json_int_t)run->at.round, "sha256", "state.safetensors", hex);
    char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
    json_decref(o);
    if (!text) RT_RAISE(RT_E_MEMORY, "out of memory for a manifest");
    snprintf(file, sizeof file, "%s/manifest.json", temporary);
    rt_status status = rt__file_write(file, text, strlen(text), err);
    free(text);
    if (status == RT_OK) status = rt__folder_commit(temporary, folder, err);
    /* keep the newest */
    for (int dropped = 1; dropped && status == RT_OK;) {
        long long oldest = -1;
        int count = 0;
        snprintf(file, sizeof file, "%s/checkpoints", run->config->out);
        DIR *dir = opendir(file);
        for (struct dirent *e; dir && (e = readdir(dir));) {
            long long u;
            if (sscanf(e->d_name, "update-%lld", &u) != 1) continue;
            count++;
            if (oldest < 0 || u < oldest) oldest = u;
        }
        if (dir) closedir(dir);
        dropped = count > run->config->run.keep;
        if (dropped) {
            snprintf(file, sizeof file, "%s/checkpoints/update-%lld", run->config->out, oldest);
            status = rt__remove_tree(file, err);
        }
    }
    return status;
}

/* Ranks go on when it is there. */
rt_status rt__checkpoint_write(rt__run *run, rt_error *err)
{
    rt_status status = rt__run_writes(run) ? write_checkpoint(run, err) : RT_OK;
    return rt_ranks_agree(run->task.ranks, status, err);
}

/* NULL if the checkpoint is what its manifest says, else what is wrong. `hex`: the state's SHA-256. */
static const char *fault_of(const char *folder, char hex[65])
{
    char file[PATH + 32];
    json_error_t why;
    snprintf(file, sizeof file, "%s/manifest.json", folder);
    if (!rt__file_exists(file)) return "manifest.json is missing";
    json_t *o = json_load_file(file, JSON_REJECT_DUPLICATES, &why);
    const char *want = json_string_value(json_object_get(json_object_get(o, "sha256"), "state.safetensors"));
    snprintf(file, sizeof file, "%s/state.safetensors", folder);
    const char *fault = !want                                       ? "manifest.json is damaged"
                        : !rt__file_exists(file)                    ? "state.safetensors is missing"
                        : rt__sha256_file(file, hex, NULL) != RT_OK ? "state.safetensors cannot be read"
                        : strcmp(hex, want)                         ? "state.safetensors is damaged: its SHA-256 is not the manifest's"
                                                                    : NULL;
    json_decref(o);
    return fault;
}

/* The network as it started is the one whose frozen part the checkpoint saw. */
static rt_status check_frozen(const rt_params *set, rt_tensors *t, const char *file, rt_error *err)
{
    char name[96], hex[65];
    if (!has_frozen(set)) return RT_OK;
    snprintf(name, sizeof name, "%s.frozen", rt_params_name(set));
    rt_tensor kept = {0};
    int i = rt_tensors_find(t, name);
    if (i >= 0) RT_TRY(rt_tensors_read(t, i, &kept, err));
    digest_frozen(set, hex);
    bool same = kept.dtype == RT_U8 && rt_tensor_count(&kept) == 64 && !memcmp(kept.data, hex, 64);
    rt_tensor_free(&kept);
    if (!same)
        RT_RAISE(RT_E_INVALID,
                 "%s: tensor '%s': the frozen parameters of '%s' are not those that the run began with; the model that it started from was "
                 "changed",
                 file, name, rt_params_name(set));
    return RT_OK;
}

/* All roles of a network's set that the file has; a trained one must be there, and one that trails such. */
static rt_status load_network(const rt_network *n, rt_tensors *t, const char *file, rt_error *err)
{
    char name[96];
    RT_TRY(check_frozen(n->set, t, file, err));
    for (int role = 0; role < RT_ROLES; role++) {
        snprintf(name, sizeof name, "%s.%s", rt_params_name(n->set), role_names[role]);
        int i = rt_tensors_find(t, name);
        if (i < 0 && role == RT_VALUE && (n->plan->trained || n->plan->trails))
            RT_RAISE(RT_E_INVALID, "%s: tensor '%s' is missing; the run was begun by another version: start it again", file, name);
        if (i < 0) continue;
        if (rt_tensors_info(t, i)->count != rt_params_trained(n->set))
            RT_RAISE(RT_E_INVALID, "%s: tensor '%s' is not of this network; the run's config.yaml was changed", file, name);
        if (role == RT_AVERAGE) RT_TRY(rt_params_copy(n->set, RT_AVERAGE, n->set, RT_VALUE, err)); /* of what is frozen, too */
        float *v = rt_params_data(n->set, (rt_role)role);
        if (!v) RT_RAISE(RT_E_MEMORY, "%s: out of memory for tensor '%s'", file, name);
        RT_TRY(rt_tensors_read_real(t, i, RT_F32, v, err));
        rt_params_touch(n->set);
    }
    return RT_OK;
}

/* What run.select has chosen so far. */
static rt_status load_selected(rt__run *run, rt_tensors *t, const char *file, rt_error *err)
{
    int i = rt_tensors_find(t, "selected");
    if (run->at.watch.best_update == 0) return RT_OK;
    if (i < 0 || !run->selected || rt_tensors_info(t, i)->count != rt_params_extent(run->selected, RT_VALUE))
        RT_RAISE(RT_E_INVALID, "%s: tensor 'selected' is missing or not of this network; the run's config.yaml was changed", file);
    float *v = rt_params_data(run->selected, RT_VALUE);
    if (!v) RT_RAISE(RT_E_MEMORY, "%s: out of memory for tensor 'selected'", file);
    RT_TRY(rt_tensors_read_real(t, i, RT_F32, v, err));
    rt_params_touch(run->selected);
    return RT_OK;
}

/* What the live line of the run began with; a checkpoint of a run without one has none. */
static rt_status load_headline(rt__run *run, rt_tensors *t, const char *file, rt_error *err)
{
    rt_tensor kept = {0};
    int i = rt_tensors_find(t, "headline");
    if (i < 0) return RT_OK;
    RT_TRY(rt_tensors_read(t, i, &kept, err));
    bool whole = kept.dtype == RT_F64 && rt_tensor_count(&kept) == 1;
    if (whole) memcpy(&run->headline, kept.data, sizeof run->headline);
    rt_tensor_free(&kept);
    return whole ? RT_OK : rt_error_set(err, RT_E_INVALID, "%s: tensor 'headline' is not one number; start the run again", file);
}

static rt_status load(rt__run *run, const char *folder, rt_error *err)
{
    char file[PATH + 32];
    snprintf(file, sizeof file, "%s/state.safetensors", folder);
    rt_tensors *t;
    RT_TRY(rt_tensors_open(&t, file, err));
    rt_status status = RT_OK;
    for (int i = 0; i < run->task.plan.n_networks && status == RT_OK; i++)
        if (run->task.networks[i].set) status = load_network(&run->task.networks[i], t, file, err);
    rt_tensor position = {0};
    int i = rt_tensors_find(t, "position");
    if (status == RT_OK) status = i >= 0 ? rt_tensors_read(t, i, &position, err) : RT_E_INVALID;
    if (status == RT_OK && (position.dtype != RT_U8 || rt_tensor_count(&position) != (int64_t)sizeof run->at)) status = RT_E_INVALID;
    if (status == RT_OK) memcpy(&run->at, position.data, sizeof run->at);
    if (status == RT_E_INVALID)
        rt_error_set(err, RT_E_INVALID, "%s: tensor 'position' is not that of this version; start the run again", file);
    rt_tensor_free(&position);
    if (status == RT_OK) status = load_selected(run, t, file, err);
    if (status == RT_OK) status = load_headline(run, t, file, err);
    rt_tensors_close(t);
    return status;
}

/* The newest before update `below`; -1: none. */
static long long newest(const rt_config *c, long long below)
{
    char folder[PATH];
    long long found = -1, u;
    snprintf(folder, sizeof folder, "%s/checkpoints", c->out);
    DIR *dir = opendir(folder);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (sscanf(e->d_name, "update-%lld", &u) == 1 && u < below && u > found) found = u;
    if (dir) closedir(dir);
    return found;
}

bool rt__checkpoint_exists(const rt_config *c) { return newest(c, INT64_MAX) >= 0; }

/* A run that ended before its first checkpoint begins again. Checkpoints of which none verifies are not thrown away in silence. `hex`: of the one that was read. */
static rt_status read_newest(rt__run *run, char hex[65], rt_error *err)
{
    char folder[PATH], line[PATH + 96], faults[400] = "";
    long long damaged = -1;
    hex[0] = 0;
    for (long long below = INT64_MAX;;) { /* newest first, until one verifies */
        long long u = newest(run->config, below);
        if (u < 0 && damaged >= 0)
            RT_RAISE(RT_E_INVALID,
                     "%s: no checkpoint that verifies (%s); to begin at update 0 and lose nothing, rename its folder checkpoints and give "
                     "--resume again, or give another --out",
                     run->config->out, faults);
        if (u < 0) {
            if (rt__run_writes(run)) run->task.note(run->task.self, "there is no checkpoint yet: the run begins at update 0");
            return RT_OK;
        }
        snprintf(folder, sizeof folder, "%s/checkpoints/update-%lld", run->config->out, u);
        const char *fault = fault_of(folder, hex);
        if (!fault && damaged >= 0 && rt__run_writes(run)) {
            snprintf(line, sizeof line, "the checkpoint of update %lld is damaged; the run goes on from update %lld", damaged, u);
            run->task.note(run->task.self, line);
        }
        if (!fault) return load(run, folder, err);
        size_t used = strlen(faults);
        snprintf(faults + used, sizeof faults - used, "%supdate %lld: %s", used ? "; " : "", u, fault);
        if (damaged < 0) damaged = u;
        below = u;
    }
}

/* Ranks read the same bytes. */
rt_status rt__checkpoint_read(rt__run *run, rt_error *err)
{
    char own[65] = "", first[65];
    RT_TRY(rt_ranks_agree(run->task.ranks, read_newest(run, own, err), err));
    memcpy(first, own, sizeof first);
    RT_TRY(rt_ranks_broadcast(run->task.ranks, first, sizeof first, err));
    rt_status status = RT_OK;
    if (memcmp(first, own, sizeof first) != 0)
        status =
            rt_error_set(err, RT_E_IO, "%s: rank 0 finds another checkpoint there; all ranks must see the same folder", run->config->out);
    return rt_ranks_agree(run->task.ranks, status, err);
}
