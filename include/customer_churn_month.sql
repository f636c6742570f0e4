/*
One row for each customer who has churned: the month after the last one they paid for, without revenue.

A period pays for each calendar month that it touches, from the month of its start date to that of the day before its
end date: 15 to 20 January pays for January, an end on 1 March does not pay for March, one on 2 March does. A period
without an end date goes on paying. A period that costs nothing, or that ends where it starts, pays for no month.

A customer has churned when the last month they paid for is over by the as-of date, that is, lies before the month of
that date. All their periods count, so a gap is not churn, and who pays again after the as-of date has not churned.
Overlapping periods add up: a month is paid for when their sum is above 0. As-of date: the parameter; if empty, the
latest start or end date there is.

The observation window goes from the first to the last month in util_months. first_active_month and last_active_month
are the first and last paid month within it; who paid for none within it has no row here (include/churn/unlabelled.sql
counts them).

Astro SDK joins all lines and binds the as-of date, so there are only comments like this one, and no colons before
words.
*/
with periods as (
    select
        cast(customer_id as bigint) as customer_id,
        cast(cast(start_date as text) as date) as start_date,
        cast(nullif(cast(end_date as text), '') as date) as end_date,
        cast(monthly_amount as numeric) as monthly_amount
    from {{ subscription_periods }}
),

as_of as (
    select
        date_trunc(
            'month',
            cast(
                coalesce(
                    cast(nullif(cast({{ as_of_date }} as text), '') as date),
                    (select max(greatest(start_date, end_date)) from periods)
                ) as timestamp
            )
        ) as as_of_month
),

observed as (
    select
        min(cast(cast(date_month as text) as timestamp)) as first_observed,
        max(cast(cast(date_month as text) as timestamp)) as last_observed
    from {{ util_months }}
),

paid as (
    select
        customer_id,
        date_trunc('month', cast(start_date as timestamp)) as first_paid,
        coalesce(
            date_trunc('month', cast(end_date - 1 as timestamp)), cast('infinity' as timestamp)
        ) as last_paid
    from periods
    where monthly_amount > 0 and (end_date is null or start_date < end_date)
),

customers as (
    select
        paid.customer_id,
        max(paid.last_paid) as last_paid,
        min(greatest(paid.first_paid, observed.first_observed)) filter (
            where paid.first_paid <= observed.last_observed and paid.last_paid >= observed.first_observed
        ) as first_active_month,
        max(least(paid.last_paid, observed.last_observed)) filter (
            where paid.first_paid <= observed.last_observed and paid.last_paid >= observed.first_observed
        ) as last_active_month
    from paid
    cross join observed
    group by paid.customer_id
)

select
    cast(customers.last_active_month + interval '1 month' as date) as date_month,
    customers.customer_id,
    cast(0 as numeric) as mrr,
    false as is_active,
    cast(customers.first_active_month as date) as first_active_month,
    cast(customers.last_active_month as date) as last_active_month,
    false as is_first_month,
    false as is_last_month
from customers
cross join as_of
where customers.last_paid < as_of.as_of_month and customers.last_active_month is not null
