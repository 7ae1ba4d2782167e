/*
 * ha_fence.c - loading, settings, and the status for people.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "fence/ha_fence/ha_fence.h"

PG_MODULE_MAGIC;

#define STATUS_COLUMNS 8

char *fence_lease_file = NULL;
bool fence_reads = false;

static char *status_setting = NULL;

void _PG_init(void);

PG_FUNCTION_INFO_V1(ha_fence_status);

Datum
ha_fence_status(PG_FUNCTION_ARGS)
{
    Datum values[STATUS_COLUMNS];
    bool nulls[STATUS_COLUMNS] = {false};
    enum lease_fault fault;
    const struct lease_layout *page;
    struct lease_view view;
    TupleDesc desc;

    if (fence_shared == NULL) {
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("ha_fence must be loaded via shared_preload_libraries")));
    }
    if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE) {
        elog(ERROR, "return type must be a row type");
    }
    fault = fence_look();
    page = fence_page();
    view = (struct lease_view){.at = page};
    values[0] = BoolGetDatum(fence_is_active());
    values[1] = CStringGetTextDatum(lease_fault_text(fault));
    values[2] = Int64GetDatum(page != NULL ? (int64)page->reign : 0);
    values[3] = Int64GetDatum((int64)lease_view_rest_ms(&view));
    values[4] = Int64GetDatum(page != NULL ? (int64)page->renewals : 0);
    values[5] = Int64GetDatum((int64)fence_shared->refused);
    values[6] = Int64GetDatum((int64)fence_shared->cut);
    values[7] = CStringGetTextDatum(fence_lease_file);
    PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/*
 * All of them are fixed at the start of the server. Given on its command line, they cannot be
 * changed by ALTER SYSTEM either.
 */
static void
define_settings(void)
{
    DefineCustomStringVariable("ha_fence.lease_file",
                               "The lease page without which a primary acknowledges nothing.",
                               NULL,
                               &fence_lease_file,
                               "",
                               PGC_POSTMASTER,
                               GUC_NOT_IN_SAMPLE,
                               NULL,
                               NULL,
                               NULL);
    DefineCustomBoolVariable("ha_fence.reads",
                             "Lets a primary without a lease answer read-only queries.",
                             "They may be stale. Off is the safe setting.",
                             &fence_reads,
                             false,
                             PGC_POSTMASTER,
                             GUC_NOT_IN_SAMPLE,
                             NULL,
                             NULL,
                             NULL);
    DefineCustomStringVariable("ha_fence.status",
                               "What the fence says now.",
                               NULL,
                               &status_setting,
                               "",
                               PGC_INTERNAL,
                               GUC_NOT_IN_SAMPLE | GUC_DISALLOW_IN_FILE,
                               NULL,
                               NULL,
                               fence_describe);
#if PG_VERSION_NUM >= 150000
    MarkGUCPrefixReserved("ha_fence");
#else
    EmitWarningsOnPlaceholders("ha_fence");
#endif
}

void
_PG_init(void)
{
    if (!process_shared_preload_libraries_in_progress) {
        /* By LOAD or CREATE FUNCTION: too late for anything but the error of the function. */
        return;
    }
    define_settings();
    fence_init_gate();
    fence_init_commit();
    fence_init_output();
    fence_init_worker();
}
