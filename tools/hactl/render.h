/*
 * render.h - the answers as people read them. Pure: the same JSON gives the same text.
 */
#ifndef HA_TOOLS_RENDER_H
#define HA_TOOLS_RENDER_H

#include "tools/hactl/picture.h"

void render_status(const json_t *picture, bool has_color, FILE *to);
void render_members(const json_t *picture, FILE *to);
void render_gateways(const json_t *gateways, FILE *to);
void render_topology(const json_t *picture, FILE *to);
void render_history(const json_t *page, FILE *to);
void render_explain(const json_t *page, FILE *to);        /* one agent's /hawser/explain */
void render_explain_all(const json_t *picture, FILE *to); /* everybody's rule and why */

#endif
