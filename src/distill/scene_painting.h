/* scene_painting.h -- a scene and its cameras in graphs and on the host, for the files of score_scene.h. */
#ifndef RT_DISTILL_SCENE_PAINTING_H
#define RT_DISTILL_SCENE_PAINTING_H

#include "distill/guess.h"
#include "distill/score_scene.h"

/* Number i of an array of a real type. */
static inline void rt__store(rt_dtype real, void *to, int64_t i, double v)
{
    if (real == RT_F64)
        ((double *)to)[i] = v;
    else
        ((float *)to)[i] = (float)v;
}
static inline double rt__load(rt_dtype real, const void *from, int64_t i)
{
    return real == RT_F64 ? ((const double *)from)[i] : (double)((const float *)from)[i];
}

int rt__scene_stage(const rt_task *t, const rt_params *set); /* the round that it is trained in */
rt_network *rt__scene_network(const rt_task *t, int round);
bool rt__scene_is_told(const rt_task *t);                                          /* does the teacher know the camera? */
int64_t rt__scene_label(const rt_task *t, const rt_camera *camera, int n_cameras); /* what it is asked for there */

int64_t rt__scene_blind_label(
    const rt_task *t); /* what a network that is not told the camera is asked for: no class, or the class at its first camera */
/* Those of scene.cameras in the order of their azimuths; n 0: they are drawn, or the scene has none. */
rt_status rt__scene_open_cameras(const rt_task *t, rt_cameras *cameras, rt_error *err);

rt_status rt__scene_build(rt_phase *p, rt_error *err);       /* the phase that moves the scene */
rt_status rt__scene_score_build(rt_phase *p, rt_error *err); /* the phase of the network s_zeta (1.17) */

/* Figures of the latest update: sums over its rows. */
typedef struct rt__scene_figures {
    int64_t update; /* whose; -1: none yet */
    double gap[4], gap_rows[4], lag, spread, opacity, unsure, rows, pixels;
    double sides; /* how the teacher's guesses of opposite sides differ, at the latest pictures; NaN: not seen yet */
} rt__scene_figures;

typedef struct rt__scene_source rt__scene_source;
rt__scene_source *rt__scene_source_of(rt_round *r);
const rt__scene_figures *rt__scene_latest(const rt__scene_source *s);
double rt__scene_view_change(
    rt__scene_source *s); /* RMS of how far the latest update moved the pictures of its last slice on this rank; NaN: unknown */
/* Of one picture. */
rt_status rt__scene_ask_teacher(rt__scene_source *s, const rt_camera *camera, const double *x, double t, int64_t y, double *x0,
                                rt_error *err);
void rt__scene_see_sides(rt__scene_source *s, double differ,
                         double least); /* says so where they differ by less, and the teacher is not told the camera */
bool rt__scene_knows_exact(const rt__scene_source *s);

#endif
