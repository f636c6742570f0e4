/*
One row of counts: which subscription periods belong to nobody, and whom the label cannot tell much about. The rules are
those of customer_churn_month.sql; the log shows each count with the words of include/churn/features.py.
*/
with customers as (
    select cast(customer_id as bigint) as customer_id from {{ customers_table }}
),

periods as (
    select
        cast(customer_id as bigint) as customer_id,
        cast(cast(start_date as text) as date) as start_date,
        cast(nullif(cast(end_date as text), '') as date) as end_date,
        cast(monthly_amount as numeric) as monthly_amount
    from {{ subscription_periods }}
),

observed as (
    select
        min(cast(cast(date_month as text) as date)) as first_day,
        cast(max(cast(cast(date_month as text) as timestamp)) + interval '1 month' as date) as day_after
    from {{ util_months }}
),

payers as (
    select
        periods.customer_id,
        bool_or(
            periods.start_date < observed.day_after
            and coalesce(periods.end_date > observed.first_day, true)
        ) as is_observed
    from periods
    cross join observed
    where periods.monthly_amount > 0 and (periods.end_date is null or periods.start_date < periods.end_date)
    group by periods.customer_id
)

select
    (
        select count(*) from periods
        left join customers on customers.customer_id = periods.customer_id
        where customers.customer_id is null
    ) as periods_of_unknown_customers,
    (
        select count(*) from customers
        left join payers on payers.customer_id = customers.customer_id
        where payers.customer_id is null
    ) as customers_who_never_paid,
    (
        select count(*) from customers
        inner join payers on payers.customer_id = customers.customer_id
        where not payers.is_observed
    ) as customers_outside_window
