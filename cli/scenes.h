/* scenes.h -- what the commands that use a scene share: opening it, cameras, its volume. */
#ifndef RETORT_SCENES_H
#define RETORT_SCENES_H

#include "cli.h"

#include "retort/mesh.h"
#include "retort/scene.h"

/* The option of all of them. */
#define CLI_PARTICLE_OPTION                                                                                                                \
    {                                                                                                                                      \
        "particle", 0, "P", "scene.particle", "0", "which of the scenes that were trained together, from 0", NULL                          \
    }

/* Does `path` hold a scene, as a run or as a folder of its own? */
bool cli_is_scene(const char *path);
/* Opens the scene at `path`, a run's or a folder of its own, and reads --particle. */
rt_status cli_open_scene(cli_call *c, const char *path, rt_scene **scene, int *particle, rt_error *err);
json_t *cli_scene_json(const char *path, const rt_scene *scene);

/* n cameras round the scene at one elevation, as far away as those that it was trained with, from the front on; labels count from 0. */
rt_status cli_turntable(rt_cameras *cameras, const rt_scene_spec *spec, int n, double elevation, rt_error *err);

/* Pictures of a particle: x [n][C][H][W], alpha and depth [n][H][W], weights [n][H][W][S]; NULL: not wanted. All freed by cli_views_free, also after a failure. */
typedef struct cli_views {
    int64_t n;
    int channels, height, width, samples;
    double low, high;
    float *x, *alpha, *depth, *weights;
} cli_views;
/* What they take; RT_E_MEMORY where that is more than the command takes on, 4 GiB. */
rt_status cli_views_bytes(const rt_scene_spec *spec, int64_t n, bool weights, int64_t *bytes, rt_error *err);
rt_status cli_render(cli_call *c, rt_scene *scene, const rt_scene_spec *spec, int particle, const rt_cameras *cameras, bool weights,
                     cli_views *views, rt_error *err);
void cli_views_free(cli_views *v);

/* A particle as a volume of *values, which the caller frees. RT_E_USAGE: the scene is none. */
rt_status cli_scene_volume(rt_scene *scene, const char *path, int particle, rt_volume *v, float **values, rt_error *err);

/* The ending of `path` is one of `endings` (n of them, longest first): its index; n: it has none, a folder's. Others are RT_E_USAGE with a guess. `option` begins the message. */
rt_status cli_ending(const char *option, const char *path, const char *const *endings, size_t n, size_t *index, rt_error *err);

/* cmd_eval.c hands over to it: a scene beside reference data. */
rt_status cli_eval_scene(cli_call *c, const char *path, rt_error *err);
/* eval_gap.c: how far the x0-prediction of --teacher, or of the teacher that scene.json names, is from the scene's views, at cameras of the training and at others: those of `given`, the file
 * --cameras (NULL: none), that are not of the training, else between or beyond those. Of a teacher that was not given, a remark says why the gap is left out. */
rt_status cli_eval_gap(cli_call *c, rt_scene *scene, int particle, const rt_cameras *given, rt_error *err);
void cli_print_gap(const cli_call *c); /* its rows of the table */

#endif
